package main

import (
	"math/rand"
	"os"
	"path/filepath"
	"testing"

	"github.com/vmware/govmomi/vim25/types"
)

func write(t *testing.T, size int64, parts map[int64]string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for off, content := range parts {
		if _, err := f.WriteAt([]byte(content), off); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

func scanned(t *testing.T, file string) *point {
	t.Helper()
	p, err := scan(file)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestHolesAndWrittenZerosAreNotInUse(t *testing.T) {
	p := scanned(t, write(t, 10*block, map[int64]string{block: "x", 5 * block: string(make([]byte, block))}))
	areas := p.changedSince(nil, 0).ChangedArea
	if len(areas) != 1 || areas[0] != (types.DiskChangeExtent{Start: block, Length: block}) {
		t.Fatalf("in use: %v", areas)
	}
}

func TestADiskThatEndsWithinABlockIsNotExceeded(t *testing.T) {
	size := int64(2*block + 100)
	p := scanned(t, write(t, size, map[int64]string{2 * block: "x"}))
	areas := p.changedSince(nil, 0).ChangedArea
	if len(areas) != 1 || areas[0].Start+areas[0].Length != size {
		t.Fatalf("areas %v of a disk of %d bytes", areas, size)
	}
}

// An answer that is cut at its limit goes on where the client asks next; all answers together are exactly the change.
func TestAnswersBeyondTheLimitContinue(t *testing.T) {
	blocks := 3 * maxAreas
	old, now := &point{int64(blocks) * block, make([]uint64, blocks)}, &point{int64(blocks) * block, make([]uint64, blocks)}
	random := rand.New(rand.NewSource(1))
	for k := range blocks {
		now.sums[k] = uint64(random.Intn(2))
		if k%2 == 0 { // every other block differs: more areas than fit
			now.sums[k] = 7
		} else {
			old.sums[k] = now.sums[k]
		}
	}
	seen, asked := map[int64]bool{}, 0
	for off := int64(0); off < now.size; {
		info := now.changedSince(old, off)
		if len(info.ChangedArea) > maxAreas || info.StartOffset != off || info.Length <= 0 {
			t.Fatalf("answer from %d: %d areas, start %d, length %d", off, len(info.ChangedArea), info.StartOffset, info.Length)
		}
		for _, a := range info.ChangedArea {
			for at := a.Start; at < a.Start+a.Length; at += block {
				seen[at/block] = true
			}
		}
		off += info.Length
		asked++
	}
	for k := range blocks {
		if seen[int64(k)] != (now.sums[k] != old.sums[k]) {
			t.Fatalf("block %d: told %v, differs %v", k, seen[int64(k)], now.sums[k] != old.sums[k])
		}
	}
	if asked < 2 {
		t.Fatal("the limit was never reached")
	}
}

func TestAGrownDiskCountsItsNewPartAgainstZeros(t *testing.T) {
	old, now := &point{block, []uint64{1}}, &point{3 * block, []uint64{1, 0, 2}}
	areas := now.changedSince(old, 0).ChangedArea
	if len(areas) != 1 || areas[0].Start != 2*block {
		t.Fatalf("areas %v", areas)
	}
}
