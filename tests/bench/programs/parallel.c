/* A job for several processors: as many threads as there are, which share out pieces of work and touch memory of their own. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"

enum { PIECES = 64, WORDS = 1 << 15, MAX_THREADS = 64 };

static atomic_int next_piece;
static uint64_t results[PIECES];
static uint64_t rounds;

static uint64_t piece(int number) {
  uint64_t *words = malloc(WORDS * sizeof *words);
  if (!words) fail("malloc");
  uint64_t random = number + 1, hash = HASH_START;
  for (uint64_t round = 0; round < rounds; round++) {
    for (int n = 0; n < WORDS; n++) words[n] = next_random(&random);
    for (int n = 0; n < WORDS; n++) hash = mix(hash, words[words[n] % WORDS]);
  }
  free(words);
  return hash;
}

static void *worker(void *unused) {
  (void)unused;
  for (int n; (n = atomic_fetch_add(&next_piece, 1)) < PIECES;) results[n] = piece(n);
  return NULL;
}

uint64_t parallel(uint64_t size) {
  rounds = size * 8;
  long processors = sysconf(_SC_NPROCESSORS_ONLN);
  int count = processors < 1 ? 1 : processors > MAX_THREADS ? MAX_THREADS : (int)processors;
  pthread_t threads[MAX_THREADS];
  for (int n = 1; n < count; n++)
    if (pthread_create(&threads[n], NULL, worker, NULL)) fail("pthread_create");
  worker(NULL);
  for (int n = 1; n < count; n++) pthread_join(threads[n], NULL);
  uint64_t hash = HASH_START;
  for (int n = 0; n < PIECES; n++) hash = mix(hash, results[n]);
  return hash;
}
