/*
 * The load generator: many uploads over one epoll loop, in one thread.  For the
 * content of uploads, and for what it prints, see results.h.
 *
 * With --source only the first block is generated; the rest is sent from that
 * file inside the kernel (sendfile), so that the generator does not slow down
 * a large upload.
 *
 * It has one of three habits, because what a receiver does for an upload depends
 * on how much of it is there when it looks:
 *   ready   all ready sockets are served in one go, up to 64 at a time
 *   single  one thing at a time, so that others get in between connecting and sending
 *   slow    half a millisecond between connecting, sending and half-closing, as over
 *           a network
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "results.h"

enum { ROOM = 1024, ANSWER = 512 };
enum protocol { RAW, PUT, FORM };
enum habit { READY, SINGLE, SLOW };

static const double PAUSE = 0.0005;  /* seconds, of the slow habit */

struct upload {
    int fd;
    long index;           /* 0 .. count - 1 */
    char *head;           /* what is sent from memory before the source */
    size_t head_size;
    char tail[128];       /* what is sent from memory after it */
    size_t tail_size;
    uint64_t sent;        /* bytes of head, source and tail that were sent */
    uint64_t total;
    int finished_sending;
    char answer[ANSWER];
    size_t answered;
    double began, moved;
    double due;           /* when the slow habit continues it */
    struct upload *next;  /* the next in turn */
};

static struct {
    int port;
    long count, parallel, sources;
    uint64_t size, base;
    enum protocol protocol;
    enum habit habit;
    const char *path, *suffix, *answer, *acks;
    int source;
    double timeout;
} option = {.count = 1, .parallel = 1, .sources = 16, .size = 4096, .base = 1,
            .protocol = RAW, .path = "/", .suffix = ".bin", .answer = "上传成功",
            .source = -1, .timeout = 60};

static long next_index, running;
static int poller, timer;
static struct upload *first_due, *last_due;

/* Lay out the bytes of one upload: head | source | tail. */
static void prepare(struct upload *u)
{
    static const char boundary[] = "----7d1c5b9e";
    uint64_t serial = option.base + u->index;
    uint64_t here = option.source < 0 ? option.size : BLOCK;
    char part[256] = "";
    size_t n = 0;

    u->tail_size = 0;
    if (option.protocol == FORM) {
        snprintf(part, sizeof part, "--%s\r\nContent-Disposition: form-data; name=\"files\"; "
                 "filename=\"%llu%s\"\r\nContent-Type: application/octet-stream\r\n\r\n",
                 boundary, (unsigned long long)serial, option.suffix);
        u->tail_size = snprintf(u->tail, sizeof u->tail, "\r\n--%s--\r\n", boundary);
        n = snprintf(u->head, ROOM, "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                     "Content-Type: multipart/form-data; boundary=%s\r\nContent-Length: %llu\r\n\r\n%s",
                     option.path, boundary,
                     (unsigned long long)(strlen(part) + option.size + u->tail_size), part);
    } else if (option.protocol == PUT) {
        n = snprintf(u->head, ROOM, "PUT %s%llu%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                     "Content-Length: %llu\r\n\r\n", option.path, (unsigned long long)serial,
                     option.suffix, (unsigned long long)option.size);
    }
    fill(u->head + n, serial, here);
    u->head_size = n + here;
    u->total = n + option.size + u->tail_size;
    u->sent = 0;
    u->finished_sending = 0;
    u->answered = 0;
}

static void begin(struct upload *u)
{
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = u};
    int on = 1;

    u->index = next_index++;
    prepare(u);
    u->began = u->moved = now();
    u->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (u->fd < 0) die("socket");
    setsockopt(u->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + u->index % option.sources);
    if (bind(u->fd, (struct sockaddr *)&from, sizeof from)) die("bind");
    to.sin_port = htons(option.port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(u->fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) die("connect");
    if (epoll_ctl(poller, EPOLL_CTL_ADD, u->fd, &event)) die("epoll_ctl");
    running++;
}

/* It ends while it waits for its turn: another upload will reuse its slot. */
static void take_out_of_the_due(struct upload *u)
{
    struct upload *before = NULL;
    for (struct upload *it = first_due; it; before = it, it = it->next) {
        if (it != u) continue;
        if (before) before->next = u->next;
        else first_due = u->next;
        if (last_due == u) last_due = before;
        return;
    }
}

static void end(struct upload *u, int success)
{
    take_out_of_the_due(u);
    note(u->index, success, u->began);
    close(u->fd);
    u->fd = -1;
    running--;
    if (next_index < option.count) begin(u);
}

/* 1: all is sent, 0: the socket is full, -1: broken. */
static int push(struct upload *u)
{
    while (u->sent < u->total) {
        uint64_t source_end = u->total - u->tail_size;
        ssize_t n;
        if (u->sent < u->head_size)
            n = send(u->fd, u->head + u->sent, u->head_size - u->sent,
                     MSG_NOSIGNAL | (u->total > u->head_size ? MSG_MORE : 0));
        else if (u->sent < source_end) {
            off_t at = option.size - (source_end - u->sent);
            uint64_t left = source_end - u->sent;
            n = sendfile(u->fd, option.source, &at, left < (8u << 20) ? left : (8u << 20));
            if (n == 0) return -1;
        } else
            n = send(u->fd, u->tail + (u->sent - source_end), u->total - u->sent, MSG_NOSIGNAL);
        if (n < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
        u->sent += n;
    }
    return 1;
}

static int is_success(const struct upload *u)
{
    if (option.protocol == RAW)
        return u->answered == strlen(option.answer) && !memcmp(u->answer, option.answer, u->answered);
    return u->answered > 12 && !memcmp(u->answer, "HTTP/1.", 7) && u->answer[9] == '2';
}

static void wait_for(struct upload *u, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = u};
    epoll_ctl(poller, EPOLL_CTL_MOD, u->fd, &event);
}

static void set_timer(double when)
{
    struct itimerspec at = {.it_value = {when, (when - (long)when) * 1e9}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

/* The slow habit: continue it later.  All pauses are equal, so it goes last. */
static void pause_it(struct upload *u)
{
    wait_for(u, 0);
    u->due = now() + PAUSE;
    u->next = NULL;
    if (first_due) last_due->next = u;
    else { first_due = u; set_timer(u->due); }
    last_due = u;
}

static void half_close(struct upload *u)
{
    u->finished_sending = 1;
    if (option.protocol == RAW) shutdown(u->fd, SHUT_WR);
    wait_for(u, EPOLLIN);
}

static void send_it(struct upload *u)
{
    int sent = push(u);
    if (sent < 0) end(u, 0);
    else if (!sent) wait_for(u, EPOLLOUT);
    else if (option.habit == SLOW && option.protocol == RAW) pause_it(u);
    else half_close(u);
}

static void see_to_the_due(void)
{
    uint64_t times;
    if (read(timer, &times, sizeof times) < 0) return;
    while (first_due && first_due->due <= now()) {
        struct upload *u = first_due;
        first_due = u->next;
        u->moved = now();
        if (u->sent == u->total) half_close(u);
        else send_it(u);
    }
    if (first_due) set_timer(first_due->due);
}

static void step(struct upload *u, uint32_t events)
{
    u->moved = now();
    if (!u->finished_sending && events & EPOLLOUT) {
        if (option.habit == SLOW && !u->sent) pause_it(u);
        else send_it(u);
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
        char spill[4096];
        size_t room = ANSWER - u->answered;
        ssize_t n = recv(u->fd, room ? u->answer + u->answered : spill, room ? room : sizeof spill, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n > 0) { if (room) u->answered += n; return; }
        end(u, n == 0 && u->finished_sending && is_success(u));
    }
}

static void read_options(int argc, char **argv)
{
    static const struct option known[] = {
        {"port", 1, 0, 'p'}, {"count", 1, 0, 'n'}, {"size", 1, 0, 's'}, {"parallel", 1, 0, 'k'},
        {"base", 1, 0, 'b'}, {"protocol", 1, 0, 'P'}, {"path", 1, 0, 'u'}, {"suffix", 1, 0, 'x'},
        {"answer", 1, 0, 'a'}, {"acks", 1, 0, 'A'}, {"source", 1, 0, 'f'}, {"timeout", 1, 0, 't'},
        {"sources", 1, 0, 'S'}, {"habit", 1, 0, 'H'}, {0, 0, 0, 0}};
    for (int c; (c = getopt_long(argc, argv, "", known, 0)) != -1;) {
        if (c == 'p') option.port = atoi(optarg);
        else if (c == 'n') option.count = atol(optarg);
        else if (c == 's') option.size = strtoull(optarg, 0, 10);
        else if (c == 'k') option.parallel = atol(optarg);
        else if (c == 'b') option.base = strtoull(optarg, 0, 10);
        else if (c == 'P') option.protocol = *optarg == 'r' ? RAW : *optarg == 'p' ? PUT : FORM;
        else if (c == 'u') option.path = optarg;
        else if (c == 'x') option.suffix = optarg;
        else if (c == 'a') option.answer = optarg;
        else if (c == 'A') option.acks = optarg;
        else if (c == 'f') { if ((option.source = open(optarg, O_RDONLY)) < 0) die(optarg); }
        else if (c == 't') option.timeout = atof(optarg);
        else if (c == 'H') option.habit = !strcmp(optarg, "single") ? SINGLE : !strcmp(optarg, "slow") ? SLOW : READY;
        else if (c == 'S') option.sources = atol(optarg);
        else exit(2);
    }
    if (option.source < 0 && option.size > (1 << 20)) {
        fputs("an upload of more than 1 MiB needs --source\n", stderr);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    struct epoll_event due = {.events = EPOLLIN};
    int most = option.habit == SINGLE ? 1 : 64;
    poller = epoll_create1(EPOLL_CLOEXEC);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (poller < 0 || timer < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, timer, &due)) die("epoll");
    open_results(option.count);
    struct upload *uploads = calloc(option.parallel, sizeof *uploads);
    double began = now(), looked = began;
    for (long i = 0; i < option.parallel; i++) {
        uploads[i].fd = -1;
        uploads[i].head = malloc(ROOM + (option.source < 0 ? option.size : 0) + BLOCK);
        if (next_index < option.count) begin(&uploads[i]);
    }
    while (running) {
        struct epoll_event events[64];
        int n = epoll_wait(poller, events, most, 1000);
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr) step(events[i].data.ptr, events[i].events);
            else see_to_the_due();
        if (now() - looked > 1) {
            looked = now();
            for (long i = 0; i < option.parallel; i++)
                if (uploads[i].fd >= 0 && looked - uploads[i].moved > option.timeout)
                    end(&uploads[i], 0);
        }
    }
    report(now() - began, option.acks);
    return 0;
}
