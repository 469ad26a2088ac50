package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"time"

	"github.com/vmware/govmomi/vim25/soap"
)

// exportHost serves exports as an ESXi host does: at an address of its own, with a certificate that nobody signed.
type exportHost struct {
	address, thumbprint string
	server              *http.Server
}

func startExportHost(handler http.HandlerFunc) (*exportHost, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("key of the exports' host: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "esx.lab"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("certificate of the exports' host: %w", err)
	}
	own, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate of the exports' host: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /nfc/", handler)
	h := &exportHost{address: listener.Addr().String(), thumbprint: soap.ThumbprintSHA1(own), server: &http.Server{Handler: mux,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}}}
	go func() {
		if err := h.server.ServeTLS(listener, "", ""); err != http.ErrServerClosed {
			log.Print("exports' host: ", err)
		}
	}()
	return h, nil
}

func (h *exportHost) close() {
	if h != nil {
		_ = h.server.Close()
	}
}
