/* A pool of worker threads that take chunks of one job at a time.
 *
 * Chunks are taken from a shared counter, so a worker that wakes late, or shares its core with
 * another program, only takes fewer. A worker spins for a moment after a job, because the next one
 * of the same decode step comes within microseconds, and then sleeps. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "stoker.h"

enum { MAX_WORKERS = 63, SPINS_BEFORE_SLEEP = 4000, SPINS_BEFORE_YIELD = 2000 };

static pthread_mutex_t job_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t run_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t job_posted = PTHREAD_COND_INITIALIZER;
static atomic_ulong job_number;
static atomic_long next_chunk;
static atomic_int num_inside;
static bool job_open;
static int num_sleeping;
static int num_workers;
static chunk_fn job_fn;
static void *job_context;
static long job_chunks;

INLINE void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void take_chunks(chunk_fn fn, void *context, long num_chunks) {
    for (;;) {
        const long chunk = atomic_fetch_add(&next_chunk, 1);
        if (chunk >= num_chunks) return;
        fn(context, chunk);
    }
}

static void wait_for_job(unsigned long seen) {
    for (int spin = 0; spin < SPINS_BEFORE_SLEEP; spin++) {
        if (atomic_load(&job_number) != seen) return;
        relax();
    }
    pthread_mutex_lock(&job_lock);
    num_sleeping++;
    while (atomic_load(&job_number) == seen) pthread_cond_wait(&job_posted, &job_lock);
    num_sleeping--;
    pthread_mutex_unlock(&job_lock);
}

static void *work(void *unused) {
    unsigned long seen = 0;
    for (;;) {
        wait_for_job(seen);
        pthread_mutex_lock(&job_lock);
        seen = atomic_load(&job_number);
        const bool open = job_open;
        const chunk_fn fn = job_fn;
        void *context = job_context;
        const long num_chunks = job_chunks;
        if (open) atomic_fetch_add(&num_inside, 1);
        pthread_mutex_unlock(&job_lock);
        if (!open) continue;
        take_chunks(fn, context, num_chunks);
        atomic_fetch_sub(&num_inside, 1);
    }
    return unused;
}

/* Starts workers beside the calling thread; returns how many threads work on a job. */
API int stoker_pool_start(int num_threads) {
    pthread_mutex_lock(&run_lock);
    while (num_workers < num_threads - 1 && num_workers < MAX_WORKERS) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, NULL) != 0) break;
        pthread_detach(thread);
        num_workers++;
    }
    const int started = num_workers + 1;
    pthread_mutex_unlock(&run_lock);
    return started;
}

static void post(chunk_fn fn, void *context, long num_chunks) {
    pthread_mutex_lock(&job_lock);
    job_fn = fn;
    job_context = context;
    job_chunks = num_chunks;
    job_open = true;
    atomic_store(&next_chunk, 0);
    atomic_fetch_add(&job_number, 1);
    if (num_sleeping > 0) pthread_cond_broadcast(&job_posted);
    pthread_mutex_unlock(&job_lock);
}

void pool_run(chunk_fn fn, void *context, long num_chunks) {
    /* A second caller works alone: the pool holds one job at a time. */
    if (num_chunks < 2 || num_workers == 0 || pthread_mutex_trylock(&run_lock) != 0) {
        for (long chunk = 0; chunk < num_chunks; chunk++) fn(context, chunk);
        return;
    }
    post(fn, context, num_chunks);
    take_chunks(fn, context, num_chunks);
    pthread_mutex_lock(&job_lock);
    job_open = false; /* a worker that wakes from here on must not touch the job */
    pthread_mutex_unlock(&job_lock);
    for (int spin = 0; atomic_load(&num_inside) > 0; spin++) {
        if (spin < SPINS_BEFORE_YIELD) relax();
        else sched_yield();
    }
    pthread_mutex_unlock(&run_lock);
}
