/*
 * A disk that is slow for one file: preloaded into a receiver, it makes fsync
 * and fdatasync of a file of exactly SLOW_FSYNC_SIZE bytes take
 * SLOW_FSYNC_SECONDS longer.  Every other file is left alone.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void wait_for(int fd)
{
    const char *size = getenv("SLOW_FSYNC_SIZE"), *seconds = getenv("SLOW_FSYNC_SECONDS");
    struct stat status;
    if (size && seconds && !fstat(fd, &status) && S_ISREG(status.st_mode) && status.st_size == atoll(size))
        usleep((useconds_t)(atof(seconds) * 1e6));
}

int fsync(int fd) { wait_for(fd); return (int)syscall(SYS_fsync, fd); }
int fdatasync(int fd) { wait_for(fd); return (int)syscall(SYS_fdatasync, fd); }
