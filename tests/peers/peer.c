/* A peer in C: see peer.py. Nothing stands between it and the kernel. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void must(int ok, const char *what) {
  if (ok) return;
  perror(what);
  exit(1);
}

static const char *shown(const struct sockaddr_storage *address, socklen_t length, char *text, size_t size) {
  char host[NI_MAXHOST], port[NI_MAXSERV];
  if (getnameinfo((const struct sockaddr *)address, length, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV)) return "?";
  /* The length is part of what the kernel gives. */
  snprintf(text, size, "[%s]:%s/%u/%d", host, port, (unsigned)length, address->ss_family);
  return text;
}

static void names(int socket, char *peer, char *own, size_t size) {
  struct sockaddr_storage address;
  socklen_t length = sizeof address;
  must(getpeername(socket, (struct sockaddr *)&address, &length) == 0, "getpeername");
  shown(&address, length, peer, size);
  length = sizeof address;
  must(getsockname(socket, (struct sockaddr *)&address, &length) == 0, "getsockname");
  shown(&address, length, own, size);
}

static void serve(const char *where) {
  int family = strchr(where, '.') ? AF_INET : AF_INET6, dual = strcmp(where, "dual") == 0, only = !dual;
  struct sockaddr_storage address = {0};
  socklen_t length;
  address.ss_family = (sa_family_t)family;
  if (family == AF_INET) {
    inet_pton(AF_INET, where, &((struct sockaddr_in *)&address)->sin_addr);
    length = sizeof(struct sockaddr_in);
  } else {
    inet_pton(AF_INET6, dual ? "::" : where, &((struct sockaddr_in6 *)&address)->sin6_addr);
    length = sizeof(struct sockaddr_in6);
  }
  int listener = socket(family, SOCK_STREAM, 0);
  must(listener >= 0, "socket");
  if (family == AF_INET6) must(setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only) == 0, "V6ONLY");
  must(bind(listener, (struct sockaddr *)&address, length) == 0, "bind");
  must(listen(listener, 128) == 0, "listen");
  must(getsockname(listener, (struct sockaddr *)&address, &length) == 0, "getsockname");
  /* The port stands at the same place in both families. */
  printf("port %d\n", ntohs(((struct sockaddr_in *)&address)->sin_port));
  fflush(stdout);
  for (;;) {
    struct sockaddr_storage from;
    length = sizeof from;
    int connection = accept(listener, (struct sockaddr *)&from, &length);
    must(connection >= 0, "accept");
    char accepted[1200], peer[1200], own[1200], request[65536] = "", body[4096];
    shown(&from, length, accepted, sizeof accepted);
    size_t have = 0;
    while (!strstr(request, "\r\n\r\n") && have < sizeof request - 1) {
      ssize_t got = read(connection, request + have, sizeof request - 1 - have);
      if (got <= 0) break;
      request[have += (size_t)got] = 0;
    }
    int closing = strncmp(request, "GET /close-listener ", 20) == 0;
    if (closing) close(listener);
    names(connection, peer, own, sizeof peer);
    int size = snprintf(body, sizeof body, "accept=%s getpeername=%s getsockname=%s\n", accepted, peer, own);
    dprintf(connection, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", size, body);
    close(connection);
    while (closing) pause();
  }
}

static void connect_to(const char *host, const char *port) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
  must(getaddrinfo(host, port, &hints, &list) == 0, "getaddrinfo");
  int connection = -1;
  for (struct addrinfo *one = list; one; one = one->ai_next) {
    connection = socket(one->ai_family, SOCK_STREAM, 0);
    if (connection >= 0 && connect(connection, one->ai_addr, one->ai_addrlen) == 0) break;
    if (connection >= 0) close(connection);
    connection = -1;
  }
  must(connection >= 0, "connect");
  char peer[1200], own[1200], answer[65536];
  names(connection, peer, own, sizeof peer);
  printf("getpeername=%s getsockname=%s\n", peer, own);
  dprintf(connection, "GET / HTTP/1.1\r\nHost: peer\r\nConnection: close\r\n\r\n");
  size_t have = 0;
  ssize_t got;
  while ((got = read(connection, answer + have, sizeof answer - 1 - have)) > 0) have += (size_t)got;
  answer[have] = 0;
  char *end = strstr(answer, "\r\n\r\n");
  must(got == 0 && end != NULL, "answer");
  fputs(end + 4, stdout);
}

int main(int count, char **arguments) {
  if (count == 3 && strcmp(arguments[1], "serve") == 0) serve(arguments[2]);
  if (count == 4 && strcmp(arguments[1], "connect") == 0) connect_to(arguments[2], arguments[3]);
  return 0;
}
