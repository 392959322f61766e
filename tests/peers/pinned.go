// pinned roots|leaf FILE URL: prints the body. It trusts the roots in FILE and no others, or the one certificate in FILE.
package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"os"
)

func settings(kind string, file []byte) *tls.Config {
	if kind == "roots" {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(file)
		return &tls.Config{RootCAs: roots}
	}
	pinned, _ := pem.Decode(file)
	return &tls.Config{VerifyPeerCertificate: func(chain [][]byte, _ [][]*x509.Certificate) error {
		if !bytes.Equal(chain[0], pinned.Bytes) {
			return errors.New("not the pinned certificate")
		}
		return nil
	}}
}

func main() {
	file, err := os.ReadFile(os.Args[2])
	if err == nil {
		client := http.Client{Transport: &http.Transport{TLSClientConfig: settings(os.Args[1], file)}}
		var response *http.Response
		if response, err = client.Get(os.Args[3]); err == nil {
			io.Copy(os.Stdout, response.Body)
			return
		}
	}
	println(err.Error())
	os.Exit(1)
}
