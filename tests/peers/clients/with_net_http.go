// Go's net/http. The same arguments and lines as steps.py.
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"sort"
	"strconv"
	"strings"
)

var hop = map[string]bool{"connection": true, "keep-alive": true, "proxy-connection": true, "transfer-encoding": true,
	"via": true, "te": true, "trailer": true, "upgrade": true}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func lines(headers ...http.Header) []string {
	var kept []string
	for _, some := range headers {
		for name, values := range some {
			for _, value := range values {
				if !hop[strings.ToLower(name)] {
					kept = append(kept, strings.ToLower(name)+": "+value)
				}
			}
		}
	}
	sort.Strings(kept)
	return kept
}

func main() {
	transport := &http.Transport{}
	if os.Args[2] != "-" {
		proxy, err := url.Parse(os.Args[2])
		check(err)
		transport.Proxy = http.ProxyURL(proxy)
	}
	client := &http.Client{Transport: transport}
	for _, step := range os.Args[3:] {
		words := strings.Split(step, " ")
		var body io.Reader
		if len(words) > 2 {
			size, err := strconv.Atoi(words[2])
			check(err)
			bytesOf := make([]byte, size)
			for index := range bytesOf {
				bytesOf[index] = byte(index % 251)
			}
			body = bytes.NewReader(bytesOf)
		}
		request, err := http.NewRequest(words[0], os.Args[1]+words[1], body)
		check(err)
		answer, err := client.Do(request)
		check(err)
		content, err := io.ReadAll(answer.Body)
		check(err)
		answer.Body.Close()
		first := fmt.Sprintf("%s %s %d %d %x", words[0], words[1], answer.StatusCode, len(content), sha256.Sum256(content))
		fmt.Println(strings.Join(append([]string{first}, lines(answer.Header, answer.Trailer)...), " | "))
	}
}
