/*
 * Slow senders: open COUNT connections, then send one byte on each of them
 * every INTERVAL seconds until standard input ends.
 *
 *   hold PORT COUNT INTERVAL [REQUEST]
 *
 * With a REQUEST of HTTP, each sends that as its first bytes, reads the response, and
 * then stays connected without sending anything.
 *
 * They connect in waves, and no wave begins while many wait to be accepted: this
 * measures how fast the receiver accepts, and not how long the kernel delays
 * connections (a second and more) that find the queue full.
 *
 * Prints "connected SECONDS" once all are connected and each has sent its
 * first bytes, and "alive COUNT" at the end.  Ends with a reset, so that
 * nothing of what was sent becomes an upload.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* A wave and those still waiting before it fit into a queue of 50, Twisted's default. */
enum { WAVE = 16, WAITING = 32, SOURCES = 32, LISTENING = 10 };
static int *connections, poller;

static void die(const char *what) { perror(what); exit(2); }

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* How many wait to be accepted on the port; 0 if the kernel does not tell. */
static long waiting(int port, int family)
{
    struct { struct nlmsghdr head; struct inet_diag_req_v2 body; } ask;
    static int link = -1;
    char answer[8192];
    long most = 0;
    if (link < 0) link = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    memset(&ask, 0, sizeof ask);
    ask.head.nlmsg_len = sizeof ask;
    ask.head.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    ask.head.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    ask.body.sdiag_family = family;
    ask.body.sdiag_protocol = IPPROTO_TCP;
    ask.body.idiag_states = 1 << LISTENING;
    ask.body.id.idiag_sport = htons(port);
    if (link < 0 || send(link, &ask, sizeof ask, 0) < 0) return 0;
    for (;;) {
        ssize_t size = recv(link, answer, sizeof answer, 0);
        if (size <= 0) return most;
        for (struct nlmsghdr *head = (void *)answer; NLMSG_OK(head, size); head = NLMSG_NEXT(head, size)) {
            if (head->nlmsg_type == NLMSG_DONE || head->nlmsg_type == NLMSG_ERROR) return most;
            struct inet_diag_msg *found = NLMSG_DATA(head);
            if (found->id.idiag_sport == htons(port) && found->idiag_rqueue > most)
                most = found->idiag_rqueue;
        }
    }
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
    if (argc != 4 && argc != 5) { fputs("hold PORT COUNT INTERVAL [REQUEST]\n", stderr); return 2; }
    const char *request = argc == 5 ? argv[4] : NULL, *first = request ? request : "slow and steady\n";
    ssize_t size = strlen(first);
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
        struct epoll_event events[WAVE];
        if (begun == done) {
            while (waiting(port, AF_INET) + waiting(port, AF_INET6) > WAITING) usleep(100);
            for (int i = 0; i < WAVE && begun < count; i++) begin(port, begun++);
        }
        int n = epoll_wait(poller, events, WAVE, 60000);
        if (n <= 0) die("nobody answers");
        for (int i = 0; i < n; i++) {
            int fd = connections[events[i].data.u64];
            if (events[i].events & EPOLLOUT) {
                if (send(fd, first, size, MSG_NOSIGNAL) != size) perror("first bytes");
                if (request) {
                    struct epoll_event event = {.events = EPOLLIN, .data.u64 = events[i].data.u64};
                    epoll_ctl(poller, EPOLL_CTL_MOD, fd, &event);
                    continue;
                }
            } else {
                char response[4096];
                if (recv(fd, response, sizeof response, 0) < 12 || response[9] != '2') {
                    fputs("a request was not answered with success\n", stderr);
                    return 2;
                }
            }
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
        for (owed += request ? 0 : per_tick; owed >= 1; owed -= 1, at = (at + 1) % count)
            send(connections[at], ".", 1, MSG_NOSIGNAL | MSG_DONTWAIT);

    for (long i = 0; i < count; i++) {
        char byte;
        alive += recv(connections[i], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
    }
    printf("alive %ld\n", alive);
    return 0;
}
