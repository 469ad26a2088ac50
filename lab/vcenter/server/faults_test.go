package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"testing"
)

func ptr(n int64) *int64 { return &n }

// send writes 100 bytes in two pieces through what is armed; cut is true if the connection was dropped.
func send(f *faults) (body []byte, status int, cut bool) {
	out := httptest.NewRecorder()
	defer func() {
		body, status = out.Body.Bytes(), out.Code
		if recover() == http.ErrAbortHandler {
			cut = true
		}
	}()
	if w, ok := f.download(out); ok {
		for range 2 {
			_, _ = w.Write(bytes.Repeat([]byte{8}, 50))
		}
	}
	return
}

func TestADownloadIsCutAfterTheGivenBytesAndOnlySoOften(t *testing.T) {
	for _, after := range []int64{0, 1, 49, 50, 51, 99} {
		f := newFaults()
		f.obey(order{DropAfter: ptr(after)})
		if body, _, cut := send(f); !cut || int64(len(body)) != after {
			t.Errorf("after %d: cut %v with %d bytes", after, cut, len(body))
		}
		if body, _, cut := send(f); cut || len(body) != 100 {
			t.Errorf("after %d, second: cut %v with %d bytes", after, cut, len(body))
		}
	}
}

func TestOneBitIsFlippedWhereverItLies(t *testing.T) {
	for _, at := range []int64{0, 49, 50, 99} {
		f := newFaults()
		f.obey(order{CorruptAt: ptr(at)})
		body, _, _ := send(f)
		for i, b := range body {
			if (b != 8) != (int64(i) == at) {
				t.Errorf("flip at %d: byte %d is %d", at, i, b)
			}
		}
	}
}

func TestRefusalsCount(t *testing.T) {
	f := newFaults()
	f.obey(order{RefuseStatus: 503, Count: 2})
	for i, want := range []int{503, 503, 200} {
		if _, status, _ := send(f); status != want {
			t.Errorf("download %d: status %d, want %d", i, status, want)
		}
	}
}

func TestClearDisarmsAll(t *testing.T) {
	f := newFaults()
	f.obey(order{DropAfter: ptr(1), CorruptAt: ptr(1), RefuseStatus: 500, RateBytes: ptr(1), Count: 9})
	f.obey(order{Clear: true})
	if body, status, cut := send(f); cut || status != 200 || !bytes.Equal(body, bytes.Repeat([]byte{8}, 100)) {
		t.Fatalf("cut %v, status %d, %d bytes", cut, status, len(body))
	}
	if f.leaseTimeout() != defaultLease {
		t.Fatal("lease timeout stays changed")
	}
}
