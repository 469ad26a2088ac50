package main

import (
	"testing"
	"time"
)

func TestASessionIsKnownUntilItEnds(t *testing.T) {
	s := newSessions()
	if _, ok := s.of("k"); ok {
		t.Fatal("unknown session is taken")
	}
	s.touch("k", "user")
	if u, ok := s.of("k"); !ok || u != "user" {
		t.Fatal("session is not known")
	}
	s.end("k")
	if _, ok := s.of("k"); ok {
		t.Fatal("ended session is taken")
	}
}

func TestAnExpiredSessionStaysSo(t *testing.T) {
	s := newSessions()
	s.touch("k", "user")
	s.expireAll()
	if s.touch("k", "user") {
		t.Fatal("a call brings an expired session back")
	}
	if !s.touch("new", "user") {
		t.Fatal("a new session is refused")
	}
}

func TestOnlyIdleSessionsEnd(t *testing.T) {
	s := newSessions()
	s.idle = time.Hour
	s.touch("idle", "user")
	s.touch("used", "user")
	s.used["idle"] = time.Now().Add(-2 * time.Hour)
	if s.touch("idle", "user") {
		t.Fatal("idle session lives")
	}
	if !s.touch("used", "user") {
		t.Fatal("used session is over")
	}
}
