/* y = x w^T (+ bias), and the cblas_sgemm that MLX finds in place of its reference BLAS.
 *
 * A decode step multiplies a few rows with every weight once, so it is bound by reading the weights;
 * a BLAS packs them first, which costs several reads. Here they are streamed as they lie. Chunks are
 * handed out one by one, so a core that is busy elsewhere does not hold the others back, as it does
 * in a BLAS that splits the work evenly beforehand. Products of other shapes go to the OpenBLAS that
 * numpy carries. */
#include <stdint.h>

#include "stoker.h"

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112 };
enum { TILE_ROWS = 6, TILE_COLUMNS = 4, CHUNK_BYTES = 1 << 17, BLOCK_BYTES = 1 << 19 };

typedef void (*sgemm64_fn)(int order, int trans_a, int trans_b, int64_t m, int64_t n, int64_t k,
                           float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                           float beta, float *c, int64_t ldc);

static sgemm64_fn openblas_sgemm;

/* Takes the address of an OpenBLAS cblas_sgemm with 64-bit integers. */
API void stoker_bind_sgemm(void *address) { openblas_sgemm = (sgemm64_fn)address; }

typedef struct {
    const float *x, *w, *bias;
    float *y;
    long ldx, ldw, ldy, m, n, k, chunk_columns, block_rows, num_blocks;
} product;

INLINE void multiply_tile(const product *p, long row, long column, const int rows,
                          const int columns, const long ahead) {
    vec sums[TILE_ROWS][TILE_COLUMNS];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < TILE_COLUMNS; j++) sums[i][j] = splat(0.0f);
    const float *x = p->x + row * p->ldx, *w = p->w + column * p->ldw;
    long at = 0;
    for (; at + LANES <= p->k; at += LANES) {
        vec weights[TILE_COLUMNS];
        for (int j = 0; j < columns; j++) {
            weights[j] = load(w + j * p->ldw + at);
            __builtin_prefetch(w + j * p->ldw + at + ahead);
        }
        for (int i = 0; i < rows; i++) {
            const vec inputs = load(x + i * p->ldx + at);
            for (int j = 0; j < columns; j++) sums[i][j] += inputs * weights[j];
        }
    }
    if (at < p->k)
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++)
                sums[i][j] += load_part(x + i * p->ldx + at, p->k - at) *
                              load_part(w + j * p->ldw + at, p->k - at);
    for (int i = 0; i < rows; i++) {
        const quad sum = sum_four(sums[i][0], sums[i][1], sums[i][2], sums[i][3]);
        for (int j = 0; j < columns; j++)
            p->y[(row + i) * p->ldy + column + j] = sum[j] + (p->bias ? p->bias[column + j] : 0.0f);
    }
}

INLINE void multiply_columns(const product *p, long row, long end, long column,
                             const int columns) {
    const long ahead = columns * p->ldw;
    for (; row + TILE_ROWS <= end; row += TILE_ROWS)
        multiply_tile(p, row, column, TILE_ROWS, columns, ahead);
    const long rest = end - row;
    if (rest == 5) multiply_tile(p, row, column, 5, columns, ahead);
    else if (rest == 4) multiply_tile(p, row, column, 4, columns, ahead);
    else if (rest == 3) multiply_tile(p, row, column, 3, columns, ahead);
    else if (rest == 2) multiply_tile(p, row, column, 2, columns, ahead);
    else if (rest == 1) multiply_tile(p, row, column, 1, columns, ahead);
}

INLINE long least(long a, long b) { return a < b ? a : b; }

static void multiply_chunk(void *context, long chunk) {
    const product *p = context;
    const long row = chunk % p->num_blocks * p->block_rows;
    const long last_row = least(row + p->block_rows, p->m);
    long column = chunk / p->num_blocks * p->chunk_columns;
    const long end = least(column + p->chunk_columns, p->n);
    for (; column + TILE_COLUMNS <= end; column += TILE_COLUMNS)
        multiply_columns(p, row, last_row, column, TILE_COLUMNS);
    for (; column < end; column++) multiply_columns(p, row, last_row, column, 1);
}

/* How many rows of k floats fill `bytes`: a multiple of `step`, at least one step. */
static long rows_in(long bytes, long k, long step) {
    const long rows = bytes / (long)sizeof(float) / (k > 0 ? k : 1) / step * step;
    return rows > step ? rows : step;
}

static void multiply(product p) {
    p.chunk_columns = rows_in(CHUNK_BYTES, p.k, TILE_COLUMNS);
    p.block_rows = rows_in(BLOCK_BYTES, p.k, TILE_ROWS); /* these rows of x stay in cache */
    p.num_blocks = (p.m + p.block_rows - 1) / p.block_rows;
    pool_run(multiply_chunk, &p, (p.n + p.chunk_columns - 1) / p.chunk_columns * p.num_blocks);
}

/* y[m, n] = x[m, k] w[n, k]^T + bias[n]; all rows contiguous; bias may be null. */
API void stoker_linear(const float *x, const float *w, const float *bias, float *y, long m, long n,
                       long k) {
    multiply((product){.x = x, .w = w, .bias = bias, .y = y, .ldx = k, .ldw = k, .ldy = n,
                       .m = m, .n = n, .k = k});
}

API void cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                     const float *a, int lda, const float *b, int ldb, float beta, float *c,
                     int ldc) {
    if (order == ROW_MAJOR && trans_a == NO_TRANSPOSE && trans_b == TRANSPOSE && alpha == 1.0f &&
        beta == 0.0f)
        multiply((product){.x = a, .w = b, .y = c, .ldx = lda, .ldw = ldb, .ldy = ldc,
                           .m = m, .n = n, .k = k});
    else
        openblas_sgemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
