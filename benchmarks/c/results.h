/*
 * What the load generators have in common: the content of uploads, and the results.
 *
 * Every upload has its own serial, which its content contains: block number j of
 * 16 bytes is (serial, j), both as 64-bit little-endian numbers.  A file that
 * was mixed, cut or overwritten cannot pass for a whole one.
 *
 * A generator prints one JSON object.  Times are in seconds.  Its --acks FILE gets one
 * byte per upload, '1' if success was received, else '0'.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { BLOCK = 16 };

static long result_count, acknowledged, failed;
static double *latencies;
static char *acks;

static void die(const char *what) { perror(what); exit(2); }

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void fill(char *to, uint64_t serial, uint64_t size)
{
    for (uint64_t at = 0; at < size; at += BLOCK) {
        uint64_t block[2] = {serial, at / BLOCK};
        memcpy(to + at, block, size - at < BLOCK ? size - at : BLOCK);
    }
}

/* Make room for the results of so many uploads. */
static void open_results(long count)
{
    result_count = count;
    latencies = calloc(count, sizeof *latencies);
    acks = malloc(count);
    if (!latencies || !acks) die("results");
    memset(acks, '0', count);
}

/* An upload has ended. */
static void note(long index, int success, double began)
{
    if (success) latencies[acknowledged++] = now() - began;
    else failed++;
    acks[index] = success ? '1' : '0';
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double at(double share)
{
    return acknowledged ? latencies[(long)(share * (acknowledged - 1))] : 0;
}

/* Print the results, and write the acknowledgements to a file if there is a path. */
static void report(double wall, const char *path)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    qsort(latencies, acknowledged, sizeof *latencies, by_value);
    if (path) {
        FILE *out = fopen(path, "w");
        if (!out || fwrite(acks, 1, result_count, out) != (size_t)result_count || fclose(out)) die("acks");
    }
    printf("{\"acknowledged\": %ld, \"failed\": %ld, \"wall\": %.6f, \"p50\": %.6f, \"p90\": %.6f, "
           "\"p99\": %.6f, \"worst\": %.6f, \"cpu\": %.6f}\n", acknowledged, failed, wall, at(.5), at(.9),
           at(.99), at(1), used.ru_utime.tv_sec + used.ru_stime.tv_sec
           + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
}
