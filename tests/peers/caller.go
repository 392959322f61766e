// caller: answers GET /call?url=URL on port 8080 by what URL answers, called on a connection of its own and as the
// environment says (proxies, roots); 502 and a sentence when that fails.
package main

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

func main() {
	http.HandleFunc("/call", func(writer http.ResponseWriter, request *http.Request) {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.DisableKeepAlives = true
		client := http.Client{Transport: transport, Timeout: 10 * time.Second}
		response, err := client.Get(request.URL.Query().Get("url"))
		if err != nil {
			writer.WriteHeader(http.StatusBadGateway)
			fmt.Fprintln(writer, err)
			return
		}
		defer response.Body.Close()
		writer.WriteHeader(response.StatusCode)
		io.Copy(writer, response.Body)
	})
	fmt.Println(http.ListenAndServe(":8080", nil))
}
