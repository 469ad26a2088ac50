package main

import (
	"strings"
	"testing"
)

func TestAWrongUserWordIsRefused(t *testing.T) {
	for _, word := range []string{"", "107", "107:107", "x:1:", "1:y:", "1:1:z"} {
		if become(word) == nil {
			t.Errorf("%q was accepted", word)
		}
	}
}

func TestAMissingCommandIsNamed(t *testing.T) {
	if _, err := prepare([]string{"labinit", "-", "no-such-program"}); err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Error(err)
	}
	if _, err := prepare([]string{"labinit", "-"}); err == nil {
		t.Error("no usage")
	}
}
