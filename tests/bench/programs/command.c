/* Whole programs: the data they work on, and a checksum of what they print. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

/* Words of a made-up language, the frequent ones more often; lines of twelve. */
int make_text(const char *path, uint64_t bytes) {
  enum { WORDS = 4096, LONGEST = 10 };
  static char words[WORDS][LONGEST + 1];
  static unsigned char lengths[WORDS];
  uint64_t random = 11;
  for (int n = 0; n < WORDS; n++) {
    lengths[n] = 2 + next_random(&random) % (LONGEST - 2);
    for (int at = 0; at < lengths[n]; at++) words[n][at] = "etaoinshrdlucmfwyp"[next_random(&random) % 18];
    words[n][lengths[n]++] = n % 12 == 0 ? '\n' : ' ';
  }
  FILE *file = fopen(path, "w");
  if (!file) fail(path);
  while (bytes > 0) {
    uint64_t pick = next_random(&random);
    int n = pick >> 32 & 3 ? pick % 256 : pick % WORDS;
    uint64_t count = lengths[n] < bytes ? lengths[n] : bytes;
    if (fwrite(words[n], 1, count, file) != count) fail(path);
    bytes -= count;
  }
  return fclose(file) ? 1 : 0;
}

int run_command(char **command, uint64_t *checksum) {
  int output[2];
  if (pipe(output)) fail("pipe");
  pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    dup2(output[1], 1);
    close(output[0]), close(output[1]);
    execvp(command[0], command);
    perror(command[0]);
    _exit(127);
  }
  close(output[1]);
  static unsigned char block[65536];
  uint64_t hash = HASH_START;
  ssize_t count;
  while ((count = read(output[0], block, sizeof block)) > 0)
    for (ssize_t at = 0; at < count; at++) hash = mix(hash, block[at]);
  close(output[0]);
  *checksum = hash;
  int status;
  if (waitpid(child, &status, 0) != child) fail("waitpid");
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 1;
  fprintf(stderr, "bench: %s ended with status %#x\n", command[0], (unsigned)status);
  return 0;
}
