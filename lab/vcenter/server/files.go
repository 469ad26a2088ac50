package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// serveDatastore answers GET /folder/PATH?dcPath=…&dsName=…, with ranges, to a session cookie or basic authentication.
func (l *lab) serveDatastore(w http.ResponseWriter, r *http.Request) {
	user, ok := l.webUser(r)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Basic realm="VMware HTTP server"`)
		http.Error(w, "", http.StatusUnauthorized)
		return
	}
	if l.lacks(user, privileges["GET /folder"]) {
		http.Error(w, "", http.StatusForbidden)
		return
	}
	// Clean on a rooted path leaves no ".." that would lead out of the datastore.
	path := filepath.Clean("/" + strings.TrimPrefix(r.URL.Path, "/folder"))
	d := l.datastore(r.URL.Query().Get("dsName"))
	if d == nil {
		http.NotFound(w, r)
		return
	}
	l.serveFile(w, r, l.view(filepath.Join(d.Summary.Url, path), nil))
}

// serveFile sends a file, or a part of it, through whatever faults are armed.
func (l *lab) serveFile(w http.ResponseWriter, r *http.Request, file string) {
	f, err := os.Open(file)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer f.Close()
	w, proceed := l.faults.download(w)
	if !proceed {
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, f)
}
