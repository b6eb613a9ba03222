/* Floating point: scalar doubles (nbody), pairs of doubles (mandelbrot), rows of floats by four (matmul). */
#include <emmintrin.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static uint64_t bits(double value) {
  uint64_t out;
  memcpy(&out, &value, sizeof out);
  return out;
}

struct body {
  double x, y, z, vx, vy, vz, mass;
};

/* Five bodies that pull each other, `size` steps. */
uint64_t nbody(uint64_t size) {
  struct body bodies[5];
  uint64_t random = 3;
  for (int n = 0; n < 5; n++) {
    double *fields = &bodies[n].x;
    for (int f = 0; f < 7; f++) fields[f] = (double)(next_random(&random) >> 40) / (1 << 24) - (f < 6 ? 0.5 : 0);
    bodies[n].x += 3 * n;
  }
  while (size--) {
    for (int i = 0; i < 5; i++) {
      for (int j = i + 1; j < 5; j++) {
        double dx = bodies[i].x - bodies[j].x, dy = bodies[i].y - bodies[j].y, dz = bodies[i].z - bodies[j].z;
        double square = dx * dx + dy * dy + dz * dz + 0.01;
        double pull = 0.001 / (square * sqrt(square));
        double a = bodies[j].mass * pull, b = bodies[i].mass * pull;
        bodies[i].vx -= dx * a, bodies[i].vy -= dy * a, bodies[i].vz -= dz * a;
        bodies[j].vx += dx * b, bodies[j].vy += dy * b, bodies[j].vz += dz * b;
      }
    }
    for (int i = 0; i < 5; i++) {
      bodies[i].x += 0.001 * bodies[i].vx, bodies[i].y += 0.001 * bodies[i].vy, bodies[i].z += 0.001 * bodies[i].vz;
    }
  }
  uint64_t hash = HASH_START;
  for (int i = 0; i < 5; i++) hash = mix(mix(mix(hash, bits(bodies[i].x)), bits(bodies[i].y)), bits(bodies[i].vz));
  return hash;
}

/* `size` by `size` points, two at a time, 100 steps each at most. */
uint64_t mandelbrot(uint64_t size) {
  uint64_t hash = HASH_START;
  const __m128d four = _mm_set1_pd(4), two = _mm_set1_pd(2), one = _mm_set1_pd(1);
  for (uint64_t row = 0; row < size; row++) {
    __m128d ci = _mm_set1_pd(2.0 * row / size - 1.0);
    for (uint64_t column = 0; column < size; column += 2) {
      __m128d cr = _mm_set_pd(3.0 * (column + 1) / size - 2.0, 3.0 * column / size - 2.0);
      __m128d zr = _mm_setzero_pd(), zi = _mm_setzero_pd(), count = _mm_setzero_pd();
      for (int step = 0; step < 100; step++) {
        __m128d rr = _mm_mul_pd(zr, zr), ii = _mm_mul_pd(zi, zi);
        __m128d inside = _mm_cmple_pd(_mm_add_pd(rr, ii), four);
        if (!_mm_movemask_pd(inside)) break;
        count = _mm_add_pd(count, _mm_and_pd(inside, one));
        zi = _mm_add_pd(_mm_mul_pd(_mm_mul_pd(two, zr), zi), ci);
        zr = _mm_add_pd(_mm_sub_pd(rr, ii), cr);
      }
      double counts[2];
      _mm_storeu_pd(counts, count);
      hash = mix(mix(hash, (uint64_t)counts[0]), (uint64_t)counts[1]);
    }
  }
  return hash;
}

/* Two matrices of `size` by `size` floats. */
uint64_t matmul(uint64_t size) {
  float *a = malloc(size * size * sizeof *a), *b = malloc(size * size * sizeof *b), *c = calloc(size * size, sizeof *c);
  if (!a || !b || !c) fail("malloc");
  uint64_t random = 5;
  for (uint64_t n = 0; n < size * size; n++) {
    a[n] = (float)(next_random(&random) >> 48) / 65536;
    b[n] = (float)(next_random(&random) >> 48) / 65536;
  }
  for (uint64_t row = 0; row < size; row++)
    for (uint64_t k = 0; k < size; k++) {
      __m128 factor = _mm_set1_ps(a[row * size + k]);
      for (uint64_t column = 0; column + 4 <= size; column += 4) {
        float *to = c + row * size + column;
        __m128 product = _mm_mul_ps(factor, _mm_loadu_ps(b + k * size + column));
        _mm_storeu_ps(to, _mm_add_ps(_mm_loadu_ps(to), product));
      }
    }
  uint64_t hash = HASH_START;
  for (uint64_t n = 0; n < size * size; n++) hash = mix(hash, bits(c[n]));
  free(a), free(b), free(c);
  return hash;
}
