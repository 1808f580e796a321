/* y = x W^T + b for few rows, in fp32.
 *
 * A product of few rows takes as long as reading the weights from memory, if arithmetic and reading
 * overlap. They do where the reading is asked for ahead of time, and that is what this adds over a
 * library. W comes in panels of PANEL outputs, [panels, inputs, PANEL], so that it is read in one
 * stream. Every element of y is one sum in the order of the inputs, whatever the other rows are:
 * the answer for a row is the same to the last bit in every pass.
 */

#include <stddef.h>

/* MOST_ROWS x VECTORS sums stay in registers: 24 of 32 (AVX-512, NEON) or 12 of 16 (AVX2). */
#if defined(__AVX512F__)
enum { LANES = 16, VECTORS = 3, MOST_ROWS = 8 };
#elif defined(__AVX2__)
enum { LANES = 8, VECTORS = 2, MOST_ROWS = 6 };
#else
enum { LANES = 4, VECTORS = 3, MOST_ROWS = 8 };
#endif

enum { PANEL = LANES * VECTORS };

/* How far ahead of the multiplication a panel is fetched, in inputs. */
enum { AHEAD = 2048 / PANEL };

typedef float vector __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float))));

int panel_width(void) { return PANEL; }

/* One panel for `rows` rows, a constant wherever this is inlined: the sums are registers then.
 *
 * start: what the sums begin with, [PANEL]; y: the first of `rows` rows that are `stride` apart;
 * fetched: where to fetch from, a vector `fetches` times for each input. */
static inline __attribute__((always_inline)) void multiply_rows(
    int rows, const float *x, ptrdiff_t inputs, const float *w, const vector *start, float *y,
    ptrdiff_t stride, const float *fetched, int fetches) {
  vector sums[8][VECTORS];
#pragma GCC unroll 8
  for (int row = 0; row < rows; row++)
#pragma GCC unroll 3
    for (int v = 0; v < VECTORS; v++) sums[row][v] = start[v];
  for (ptrdiff_t k = 0; k < inputs; k++) {
    for (int fetch = 0; fetch < fetches; fetch++, fetched += LANES)
      __builtin_prefetch(fetched, 0, 3);
    const vector *weights = (const vector *)(w + k * PANEL);
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++)
#pragma GCC unroll 3
      for (int v = 0; v < VECTORS; v++) sums[row][v] += x[row * inputs + k] * weights[v];
  }
#pragma GCC unroll 8
  for (int row = 0; row < rows; row++)
#pragma GCC unroll 3
    for (int v = 0; v < VECTORS; v++) *(vector *)(y + row * stride + v * LANES) = sums[row][v];
}

static void multiply(int rows, const float *x, ptrdiff_t inputs, const float *w,
                     const vector *start, float *y, ptrdiff_t stride, const float *fetched,
                     int fetches) {
#define CASE(n)                                                         \
  case n:                                                               \
    multiply_rows(n, x, inputs, w, start, y, stride, fetched, fetches); \
    break;
  switch (rows) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
#undef CASE
}

/* All rows over one panel. While a block of rows is computed, what is needed next is fetched:
 * in a single block the same panel further on, in several the next panel, a part in each. */
static void multiply_panel(const float *x, ptrdiff_t rows, ptrdiff_t inputs, const float *w,
                           const vector *start, float *y, ptrdiff_t stride) {
  ptrdiff_t blocks = (rows + MOST_ROWS - 1) / MOST_ROWS;
  const float *next = w + PANEL * (blocks == 1 ? AHEAD : inputs);
  for (ptrdiff_t block = 0; block < blocks; block++) {
    ptrdiff_t begin = block * rows / blocks, end = (block + 1) * rows / blocks;
    ptrdiff_t fetched = block * VECTORS / blocks, fetched_end = (block + 1) * VECTORS / blocks;
    multiply((int)(end - begin), x + begin * inputs, inputs, w, start, y + begin * stride, stride,
             next + fetched * inputs * LANES, (int)(fetched_end - fetched));
  }
}

/* x: [rows, inputs]; w: [panels, inputs, PANEL]; bias: [panels * PANEL];
 * y: [rows, panels * PANEL]. */
void few_rows(const float *x, ptrdiff_t rows, ptrdiff_t inputs, const float *w, const float *bias,
              float *y, ptrdiff_t panels, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
  for (ptrdiff_t panel = 0; panel < panels; panel++)
    multiply_panel(x, rows, inputs, w + panel * inputs * PANEL,
                   (const vector *)(bias + panel * PANEL), y + panel * PANEL, panels * PANEL);
}
