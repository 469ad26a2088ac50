package cri

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"sync"
	"time"
)

// logFile is a container's log in the CRI format that `kubectl logs` reads: time, stream, F(ull) or P(artial), text.
type logFile struct {
	mu   sync.Mutex
	path string
	file *os.File
	last string // the latest line: bubblewrap's own words when a container does not start
}

func openLog(path string) (*logFile, error) {
	l := &logFile{path: path}
	return l, l.reopen()
}

// reopen goes on in a new file after the kubelet has moved the old one away.
func (l *logFile) reopen() error {
	file, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		if err := l.file.Close(); err != nil {
			return err
		}
	}
	l.file = file
	return nil
}

func (l *logFile) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.file.Close(); err != nil {
		log.Printf("log %s: %v", l.path, err)
	}
}

func (l *logFile) lastLine() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.TrimSpace(l.last)
}

// follow writes a stream to the log until it ends. Lines longer than 16 KiB become several partial entries.
func (l *logFile) follow(stream string, from io.Reader) {
	reader := bufio.NewReaderSize(from, 16<<10)
	for {
		line, err := reader.ReadSlice('\n')
		if len(line) > 0 {
			l.write(stream, line, errors.Is(err, bufio.ErrBufferFull))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

func (l *logFile) write(stream string, line []byte, partial bool) {
	tag, end := "F", ""
	if partial {
		tag = "P"
	}
	if line[len(line)-1] != '\n' {
		end = "\n"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = string(line)
	if _, err := fmt.Fprintf(l.file, "%s %s %s %s%s", time.Now().UTC().Format(time.RFC3339Nano), stream, tag, line, end); err != nil {
		log.Printf("log %s: %v", l.path, err)
	}
}
