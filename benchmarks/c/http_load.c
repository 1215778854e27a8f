/*
 * The load generator for HTTP: uploads over connections that stay open, in one
 * thread over epoll.  For the content of uploads, and for what it prints, see results.h.
 *
 *   put   each upload is one PUT
 *   tus   each upload is one POST, which creates it, and PATCHes of --chunk bytes
 *
 * With --source only the first block is generated; the rest is sent from that file
 * inside the kernel (sendfile).
 *
 * A request is sent as soon as the response to the one before it has arrived.  A
 * connection that the server closes between two requests is opened again.
 *
 * A latency is that of an upload, from its first request to its last response.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "results.h"

enum { HEAD = 2048, ANSWER = 16384 };
enum step { PUT, CREATE, PATCH };

struct connection {
    int fd;
    long index;               /* of the upload: 0 .. count - 1 */
    enum step step;
    char location[1024];      /* of a tus upload */
    uint64_t offset, length;  /* of this request's body, in the upload */
    char *head;               /* what is sent from memory before the source */
    size_t head_size;
    uint64_t sent, total;     /* bytes of the request */
    char answer[ANSWER + 1];
    size_t answered;
    double began, moved;
    int retried, writing;
};

static struct {
    int port, tus;
    long count, parallel;
    uint64_t size, base, chunk;
    const char *path, *suffix, *acks;
    int source;
    double timeout;
} option = {.count = 1, .parallel = 1, .size = 4096, .base = 1, .path = "/",
            .suffix = ".bin", .source = -1, .timeout = 60};

static long next_index, running;
static int poller;

/* Lay out the bytes of the next request: head | first block or all | source. */
static void prepare(struct connection *c)
{
    unsigned long long serial = option.base + c->index, here = 0;
    size_t n;
    if (c->step == CREATE) {
        c->offset = c->length = 0;
        n = snprintf(c->head, HEAD, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
                     "Tus-Resumable: 1.0.0\r\nUpload-Length: %llu\r\nContent-Length: 0\r\n"
                     "Upload-Metadata: filename dXBsb2FkLmJpbg==\r\n\r\n",
                     option.path, option.port, (unsigned long long)option.size);
    } else if (c->step == PATCH) {
        uint64_t left = option.size - c->offset;
        c->length = option.chunk && option.chunk < left ? option.chunk : left;
        n = snprintf(c->head, HEAD, "PATCH %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
                     "Tus-Resumable: 1.0.0\r\nUpload-Offset: %llu\r\n"
                     "Content-Type: application/offset+octet-stream\r\nContent-Length: %llu\r\n\r\n",
                     c->location, option.port, (unsigned long long)c->offset,
                     (unsigned long long)c->length);
    } else {
        c->offset = 0;
        c->length = option.size;
        n = snprintf(c->head, HEAD, "PUT %s%llu%s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
                     "Content-Length: %llu\r\n\r\n", option.path, serial, option.suffix,
                     option.port, (unsigned long long)option.size);
    }
    if (c->step != CREATE && c->offset == 0) {
        here = option.source < 0 ? c->length : BLOCK;
        fill(c->head + n, serial, here);
    }
    c->head_size = n + here;
    c->total = n + c->length;
    c->sent = c->answered = 0;
}

static void wait_for(struct connection *c, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    c->writing = !!(events & EPOLLOUT);
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event)) die("epoll_ctl");
}

static void open_it(struct connection *c)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(option.port)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int on = 1;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    if (connect(c->fd, (struct sockaddr *)&to, sizeof to)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->writing = 0;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event)) die("epoll_ctl");
}

static void close_it(struct connection *c)
{
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

static void end(struct connection *c, int success);

/* Send what the socket takes. */
static void push(struct connection *c)
{
    while (c->sent < c->total) {
        ssize_t n;
        if (c->sent < c->head_size)
            n = send(c->fd, c->head + c->sent, c->head_size - c->sent,
                     MSG_NOSIGNAL | (c->total > c->head_size ? MSG_MORE : 0));
        else {
            off_t at = c->offset + c->length - (c->total - c->sent);
            uint64_t left = c->total - c->sent;
            n = sendfile(c->fd, option.source, &at, left < (8u << 20) ? left : (8u << 20));
            if (n == 0) { end(c, 0); return; }
        }
        if (n < 0) {
            if (errno == EAGAIN || errno == EINTR) {
                if (!c->writing) wait_for(c, EPOLLIN | EPOLLOUT);
            } else if (!c->answered) end(c, 0);  /* else the answer tells why */
            return;
        }
        c->sent += n;
    }
    if (c->writing) wait_for(c, EPOLLIN);
}

static void request(struct connection *c)
{
    prepare(c);
    if (c->fd < 0) open_it(c);
    push(c);
}

static void begin(struct connection *c)
{
    c->index = next_index++;
    c->step = option.tus ? CREATE : PUT;
    c->retried = 0;
    c->began = c->moved = now();
    running++;
    request(c);
}

static void end(struct connection *c, int success)
{
    note(c->index, success, c->began);
    if (!success) close_it(c);
    running--;
    if (next_index < option.count) begin(c);
    else close_it(c);
}

/* The value of a field of the answer's head, or NULL. */
static const char *field(const char *head, const char *name)
{
    size_t size = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (!strncasecmp(line, name, size) && line[size] == ':') {
            line += size + 1;
            return line + strspn(line, " \t");
        }
    }
    return NULL;
}

/* Remember the path of a new upload. */
static int locate(struct connection *c, const char *value)
{
    if (!value) return 0;
    size_t size = strcspn(value, "\r");
    const char *path = value;
    if (!strncasecmp(value, "http", 4)) path = strchr(value + 8, '/');
    if (!path || path >= value + size || value + size - path >= (long)sizeof c->location) return 0;
    memcpy(c->location, path, value + size - path);
    c->location[value + size - path] = 0;
    return 1;
}

/* The whole answer has come: go on with this upload, or end it. */
static void answered(struct connection *c, int status)
{
    const char *connection = field(c->answer, "Connection"), *value;
    int bad = status / 100 != 2 || c->sent < c->total;
    if (!bad && c->step == CREATE) {
        bad = !locate(c, field(c->answer, "Location"));
        c->step = PATCH;
    } else if (!bad && c->step == PATCH) {
        value = field(c->answer, "Upload-Offset");
        bad = !value || strtoull(value, 0, 10) != c->offset + c->length;
        c->offset += c->length;
    }
    c->moved = now();
    if (!strncasecmp(connection ? connection : "", "close", 5)) close_it(c);
    if (bad) end(c, 0);
    else if (c->step == PATCH && c->offset < option.size) request(c);
    else end(c, 1);
}

static void read_answer(struct connection *c)
{
    ssize_t n = recv(c->fd, c->answer + c->answered, ANSWER - c->answered, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        /* Closed between two requests, before the server has seen this one? */
        if (c->answered || c->retried++ || c->step == CREATE) { end(c, 0); return; }
        close_it(c);
        request(c);
        return;
    }
    c->answered += n;
    c->answer[c->answered] = 0;
    for (;;) {
        char *body = strstr(c->answer, "\r\n\r\n");
        if (!body) { if (c->answered == ANSWER) end(c, 0); return; }
        body[2] = 0;  /* the fields end here */
        int status = c->answered > 12 ? atoi(c->answer + 9) : 0;
        size_t here = c->answered - (body + 4 - c->answer), wanted = 0;
        const char *length = field(c->answer, "Content-Length");
        const char *coding = field(c->answer, "Transfer-Encoding");
        body[2] = '\r';
        if (status / 100 == 1) {
            memmove(c->answer, body + 4, here + 1);
            c->answered = here;
            continue;
        }
        if (length) wanted = strtoull(length, 0, 10);
        if (status == 204) wanted = 0;
        else if (coding && !strstr(body + 2, "\r\n0\r\n\r\n")) return;
        if (here < wanted) {
            if (c->answered == ANSWER) end(c, 0);
            return;
        }
        body[2] = 0;
        answered(c, status);
        return;
    }
}

static void step(struct connection *c, uint32_t events)
{
    c->moved = now();
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_answer(c);
    else if (events & EPOLLOUT) push(c);
}

static void read_options(int argc, char **argv)
{
    static const struct option known[] = {
        {"port", 1, 0, 'p'}, {"count", 1, 0, 'n'}, {"size", 1, 0, 's'}, {"parallel", 1, 0, 'k'},
        {"base", 1, 0, 'b'}, {"protocol", 1, 0, 'P'}, {"path", 1, 0, 'u'}, {"suffix", 1, 0, 'x'},
        {"acks", 1, 0, 'A'}, {"source", 1, 0, 'f'}, {"timeout", 1, 0, 't'}, {"chunk", 1, 0, 'c'},
        {0, 0, 0, 0}};
    for (int c; (c = getopt_long(argc, argv, "", known, 0)) != -1;) {
        if (c == 'p') option.port = atoi(optarg);
        else if (c == 'n') option.count = atol(optarg);
        else if (c == 's') option.size = strtoull(optarg, 0, 10);
        else if (c == 'k') option.parallel = atol(optarg);
        else if (c == 'b') option.base = strtoull(optarg, 0, 10);
        else if (c == 'P') option.tus = *optarg == 't';
        else if (c == 'u') option.path = optarg;
        else if (c == 'x') option.suffix = optarg;
        else if (c == 'A') option.acks = optarg;
        else if (c == 'f') { if ((option.source = open(optarg, O_RDONLY)) < 0) die(optarg); }
        else if (c == 't') option.timeout = atof(optarg);
        else if (c == 'c') option.chunk = strtoull(optarg, 0, 10);
        else exit(2);
    }
    if (option.source < 0 && (option.size > (1 << 20) || (option.tus && option.chunk))) {
        fputs("an upload of more than 1 MiB, or in chunks, needs --source\n", stderr);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0) die("epoll");
    open_results(option.count);
    struct connection *all = calloc(option.parallel, sizeof *all);
    double began = now(), looked = began;
    for (long i = 0; i < option.parallel; i++) {
        all[i].fd = -1;
        all[i].head = malloc(HEAD + BLOCK + (option.source < 0 ? option.size : 0));
        if (next_index < option.count) begin(&all[i]);
    }
    while (running) {
        struct epoll_event events[64];
        int n = epoll_wait(poller, events, 64, 1000);
        for (int i = 0; i < n; i++) step(events[i].data.ptr, events[i].events);
        if (now() - looked > 1) {
            looked = now();
            for (long i = 0; i < option.parallel; i++)
                if (all[i].fd >= 0 && looked - all[i].moved > option.timeout) end(&all[i], 0);
        }
    }
    report(now() - began, option.acks);
    return 0;
}
