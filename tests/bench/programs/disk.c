/* What a guest does to its disk, past its own cache: /dev/vda, of which the lower half is read and the upper half written. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench.h"

#define DISK "/dev/vda"
#define MIB (1ull << 20)
#define HALF (128 * MIB)
#define BLOCK 4096
#define THREADS 16
/* Writes between two that have to be on the disk, as a data base has them. */
#define COMMIT 32

static void *buffer(size_t bytes) {
  void *memory;
  if (posix_memalign(&memory, BLOCK, bytes) != 0) fail("posix_memalign");
  return memory;
}

static int disk(int flags) {
  int fd = open(DISK, flags | O_DIRECT);
  if (fd < 0) fail(DISK);
  return fd;
}

static uint64_t hash_of(uint64_t hash, const uint64_t *words, size_t bytes) {
  /* every 64th word: the disk is measured, not the processor */
  for (size_t i = 0; i < bytes / 8; i += 64) hash = mix(hash, words[i]);
  return hash;
}

uint64_t diskread(uint64_t mebibytes) {
  int fd = disk(O_RDONLY);
  uint64_t *data = buffer(MIB), hash = HASH_START;
  for (uint64_t at = 0; at < mebibytes * MIB; at += MIB) {
    if (pread(fd, data, MIB, at % HALF) != (ssize_t)MIB) fail("read");
    hash = hash_of(hash, data, MIB);
  }
  free(data);
  close(fd);
  return hash;
}

uint64_t diskwrite(uint64_t mebibytes) {
  int fd = disk(O_WRONLY);
  uint64_t *data = buffer(MIB), state = 1;
  for (size_t i = 0; i < MIB / 8; i++) data[i] = next_random(&state);
  for (uint64_t at = 0; at < mebibytes * MIB; at += MIB) {
    data[0] = at;
    if (pwrite(fd, data, MIB, HALF + at % HALF) != (ssize_t)MIB) fail("write");
  }
  if (fsync(fd) != 0) fail("fsync");
  uint64_t hash = hash_of(HASH_START, data, MIB);
  free(data);
  close(fd);
  return hash;
}

struct job {
  uint64_t count, seed, hash;
  int fd;
};

static void *random_reads(void *argument) {
  struct job *job = argument;
  uint64_t *data = buffer(BLOCK), state = job->seed;
  job->hash = HASH_START;
  for (uint64_t n = 0; n < job->count; n++) {
    uint64_t at = next_random(&state) % (HALF / BLOCK) * BLOCK;
    if (pread(job->fd, data, BLOCK, at) != BLOCK) fail("read");
    job->hash = hash_of(job->hash, data, BLOCK);
  }
  free(data);
  return NULL;
}

uint64_t randread(uint64_t count) {
  struct job job = {.count = count, .seed = 7, .fd = disk(O_RDONLY)};
  random_reads(&job);
  close(job.fd);
  return job.hash;
}

/* Sixteen requests at once. */
uint64_t randread16(uint64_t count) {
  pthread_t threads[THREADS];
  struct job jobs[THREADS];
  uint64_t hash = HASH_START;
  int fd = disk(O_RDONLY);
  for (int i = 0; i < THREADS; i++) {
    jobs[i] = (struct job){.count = count / THREADS, .seed = i + 1, .fd = fd};
    if (pthread_create(&threads[i], NULL, random_reads, &jobs[i]) != 0) fail("pthread_create");
  }
  for (int i = 0; i < THREADS; i++) {
    pthread_join(threads[i], NULL);
    hash = mix(hash, jobs[i].hash);
  }
  close(fd);
  return hash;
}

uint64_t randwrite(uint64_t count) {
  int fd = disk(O_WRONLY);
  uint64_t *data = buffer(BLOCK), state = 9;
  for (size_t i = 0; i < BLOCK / 8; i++) data[i] = next_random(&state);
  for (uint64_t n = 1; n <= count; n++) {
    uint64_t at = HALF + next_random(&state) % (HALF / BLOCK) * BLOCK;
    data[0] = n;
    if (pwrite(fd, data, BLOCK, at) != BLOCK) fail("write");
    if (n % COMMIT == 0 && fdatasync(fd) != 0) fail("fdatasync");
  }
  free(data);
  close(fd);
  return state;
}
