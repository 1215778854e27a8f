/*
 * Slow senders: open COUNT connections, then send one byte on each of them
 * every INTERVAL seconds until standard input ends.
 *
 *   hold PORT COUNT INTERVAL
 *
 * Prints "connected SECONDS" once all are connected and each has sent its
 * first bytes, and "alive COUNT" at the end.  Leaves with a reset, so that
 * nothing of what was sent is an upload.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { AT_ONCE = 64, SOURCES = 32 };
static int *connections, poller;

static void die(const char *what) { perror(what); exit(2); }

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void begin(int port, long index)
{
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    struct linger reset = {.l_onoff = 1, .l_linger = 0};
    struct epoll_event event = {.events = EPOLLOUT, .data.u64 = index};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket");
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + index % SOURCES);
    if (bind(fd, (struct sockaddr *)&from, sizeof from)) die("bind");
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) die("connect");
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    connections[index] = fd;
}

int main(int argc, char **argv)
{
    if (argc != 4) { fputs("hold PORT COUNT INTERVAL\n", stderr); return 2; }
    int port = atoi(argv[1]);
    long count = atol(argv[2]), begun = 0, done = 0, alive = 0;
    double interval = atof(argv[3]), start = now();
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    connections = calloc(count, sizeof *connections);
    poller = epoll_create1(EPOLL_CLOEXEC);
    while (done < count) {
        struct epoll_event events[AT_ONCE];
        while (begun < count && begun - done < AT_ONCE) begin(port, begun++);
        int n = epoll_wait(poller, events, AT_ONCE, 60000);
        if (n <= 0) die("nobody answers");
        for (int i = 0; i < n; i++) {
            int fd = connections[events[i].data.u64];
            if (send(fd, "slow and steady\n", 16, MSG_NOSIGNAL) != 16) perror("first bytes");
            epoll_ctl(poller, EPOLL_CTL_DEL, fd, 0);
            done++;
        }
    }
    printf("connected %.6f\n", now() - start);
    fflush(stdout);

    double per_tick = count * 0.05 / interval, owed = 0;
    long at = 0;
    struct pollfd input = {.fd = 0, .events = POLLIN};
    while (poll(&input, 1, 50) == 0)
        for (owed += per_tick; owed >= 1; owed -= 1, at = (at + 1) % count)
            send(connections[at], ".", 1, MSG_NOSIGNAL | MSG_DONTWAIT);

    for (long i = 0; i < count; i++) {
        char byte;
        alive += recv(connections[i], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
    }
    printf("alive %ld\n", alive);
    return 0;
}
