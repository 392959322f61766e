// A peer in Go: see peer.py. RemoteAddr is what accept() or connect() gave; the kernel is asked once more for the rest.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func shown(address syscall.Sockaddr) string {
	switch address := address.(type) {
	case *syscall.SockaddrInet4:
		return fmt.Sprintf("[%s]:%d", net.IP(address.Addr[:]), address.Port)
	case *syscall.SockaddrInet6:
		return fmt.Sprintf("[v6 %s]:%d", net.IP(address.Addr[:]), address.Port)
	}
	return "?"
}

func names(connection net.Conn) (peer, own string) {
	raw, err := connection.(*net.TCPConn).SyscallConn()
	must(err)
	must(raw.Control(func(fd uintptr) {
		address, err := syscall.Getpeername(int(fd))
		must(err)
		peer = shown(address)
		address, err = syscall.Getsockname(int(fd))
		must(err)
		own = shown(address)
	}))
	return peer, own
}

func serve(where string) {
	network, address := "tcp4", where+":0"
	if where == "dual" {
		network, address = "tcp", ":0"
	} else if strings.Contains(where, ":") {
		network, address = "tcp6", "["+where+"]:0"
	}
	listener, err := net.Listen(network, address)
	must(err)
	fmt.Println("port", listener.Addr().(*net.TCPAddr).Port)
	for {
		connection, err := listener.Accept()
		if err != nil {
			select {}
		}
		go func() {
			defer connection.Close()
			reader := bufio.NewReader(connection)
			first, _ := reader.ReadString('\n')
			for line := first; line != "" && line != "\r\n"; {
				line, _ = reader.ReadString('\n')
			}
			if strings.HasPrefix(first, "GET /close-listener ") {
				listener.Close()
			}
			peer, own := names(connection)
			body := fmt.Sprintf("accept=%s local=%s getpeername=%s getsockname=%s\n", connection.RemoteAddr(), connection.LocalAddr(), peer, own)
			fmt.Fprintf(connection, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
		}()
	}
}

func connect(host, port string) {
	connection, err := net.Dial("tcp", net.JoinHostPort(host, port))
	must(err)
	peer, own := names(connection)
	fmt.Printf("remote=%s getpeername=%s getsockname=%s\n", connection.RemoteAddr(), peer, own)
	fmt.Fprintf(connection, "GET / HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n")
	answer, err := io.ReadAll(connection)
	must(err)
	_, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	fmt.Print(body)
}

func main() {
	switch os.Args[1] {
	case "serve":
		serve(os.Args[2])
	case "connect":
		connect(os.Args[2], os.Args[3])
	}
}
