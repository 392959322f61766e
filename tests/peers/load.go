// load: a server on port 8080 that is told to be a client, too.
//
//	/                                  answers "ok"
//	/stream                            a line every 100 ms, until the client leaves
//	/start?name=N&url=U&rate=R&proxy=P begins R connections a second to U, each with one request; P may be empty
//	/stop?name=N                       ends that, waits for those under way: {"attempts": …, "failed": [{"begun", "took", "why"}]}
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

type failure struct {
	Begun float64 `json:"begun"`
	Took  float64 `json:"took"`
	Why   string  `json:"why"`
}

type load struct {
	sync.Mutex
	sync.WaitGroup
	stop     chan struct{}
	Attempts int       `json:"attempts"`
	Failed   []failure `json:"failed"`
}

var (
	loads = map[string]*load{}
	lock  sync.Mutex
)

func (load *load) attempt(client *http.Client, to string) {
	defer load.Done()
	begun := time.Now()
	err := func() error {
		response, err := client.Get(to)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err == nil && (response.StatusCode != 200 || string(body) != "ok") {
			err = fmt.Errorf("answered %d %q", response.StatusCode, body)
		}
		return err
	}()
	load.Lock()
	defer load.Unlock()
	load.Attempts++
	if err != nil && len(load.Failed) < 1000 {
		at := float64(begun.UnixMicro()) / 1e6
		load.Failed = append(load.Failed, failure{at, time.Since(begun).Seconds(), err.Error()})
	}
}

func (load *load) run(client *http.Client, to string, rate int) {
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	for {
		select {
		case <-load.stop:
			return
		case <-ticker.C:
			load.Add(1)
			go load.attempt(client, to)
		}
	}
}

func start(writer http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	rate, _ := strconv.Atoi(query.Get("rate"))
	transport := &http.Transport{DisableKeepAlives: true}
	if proxy := query.Get("proxy"); proxy != "" {
		through, _ := url.Parse(proxy)
		transport.Proxy = http.ProxyURL(through)
	}
	begun := &load{stop: make(chan struct{}), Failed: []failure{}}
	lock.Lock()
	loads[query.Get("name")] = begun
	lock.Unlock()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	go begun.run(client, query.Get("url"), max(rate, 1))
	io.WriteString(writer, "begun")
}

func stop(writer http.ResponseWriter, request *http.Request) {
	lock.Lock()
	load := loads[request.URL.Query().Get("name")]
	lock.Unlock()
	close(load.stop)
	load.Wait()
	told, _ := json.Marshal(load)
	// The test reads no chunks.
	writer.Header().Set("Content-Length", strconv.Itoa(len(told)))
	writer.Write(told)
}

func stream(writer http.ResponseWriter, request *http.Request) {
	for count := 0; request.Context().Err() == nil; count++ {
		fmt.Fprintln(writer, count)
		writer.(http.Flusher).Flush()
		time.Sleep(100 * time.Millisecond)
	}
}

func main() {
	http.HandleFunc("/start", start)
	http.HandleFunc("/stop", stop)
	http.HandleFunc("/stream", stream)
	http.HandleFunc("/", func(writer http.ResponseWriter, _ *http.Request) { io.WriteString(writer, "ok") })
	fmt.Println(http.ListenAndServe(":8080", nil))
}
