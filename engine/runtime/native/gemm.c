/* y = x w^T (+ bias), and the cblas_sgemm that MLX finds in place of its reference BLAS.
 *
 * A decode step multiplies a few rows with every weight once, so it is bound by reading the weights;
 * a BLAS packs them first, which costs several reads. For few rows the weights are streamed as they
 * lie; for many rows the work goes to the OpenBLAS that numpy carries, so there is one BLAS pool. */
#include <stdint.h>

#include "stoker.h"

enum { ROW_MAJOR = 101, NO_TRANSPOSE = 111, TRANSPOSE = 112, TILE = 4, CHUNK_BYTES = 1 << 17 };

/* Above this many rows OpenBLAS is faster. */
enum { MAX_STREAMED_ROWS = 96 };

typedef void (*sgemm64_fn)(int order, int trans_a, int trans_b, int64_t m, int64_t n, int64_t k,
                           float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                           float beta, float *c, int64_t ldc);

static sgemm64_fn openblas_sgemm;

/* Takes the address of an OpenBLAS cblas_sgemm with 64-bit integers. */
API void stoker_bind_sgemm(void *address) { openblas_sgemm = (sgemm64_fn)address; }

typedef struct {
    const float *x, *w, *bias;
    float *y;
    long ldx, ldw, ldy, m, n, k, chunk_columns;
} product;

INLINE void multiply_tile(const product *p, long row, long column, const int rows,
                          const int columns, const long ahead) {
    vec sums[TILE][TILE];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < TILE; j++) sums[i][j] = splat(0.0f);
    const float *x = p->x + row * p->ldx, *w = p->w + column * p->ldw;
    long at = 0;
    for (; at + LANES <= p->k; at += LANES) {
        vec weights[TILE];
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

INLINE void multiply_columns(const product *p, long column, const int columns) {
    const long ahead = columns * p->ldw;
    long row = 0;
    for (; row + TILE <= p->m; row += TILE) multiply_tile(p, row, column, TILE, columns, ahead);
    if (p->m - row == 3) multiply_tile(p, row, column, 3, columns, ahead);
    else if (p->m - row == 2) multiply_tile(p, row, column, 2, columns, ahead);
    else if (p->m - row == 1) multiply_tile(p, row, column, 1, columns, ahead);
}

static void multiply_chunk(void *context, long chunk) {
    const product *p = context;
    long column = chunk * p->chunk_columns;
    const long end = column + p->chunk_columns < p->n ? column + p->chunk_columns : p->n;
    for (; column + TILE <= end; column += TILE) multiply_columns(p, column, TILE);
    for (; column < end; column++) multiply_columns(p, column, 1);
}

static void multiply_streamed(product p) {
    const long columns = CHUNK_BYTES / (long)sizeof(float) / (p.k > 0 ? p.k : 1) / TILE * TILE;
    p.chunk_columns = columns > TILE ? columns : TILE;
    pool_run(multiply_chunk, &p, (p.n + p.chunk_columns - 1) / p.chunk_columns);
}

/* y[m, n] = x[m, k] w[n, k]^T + bias[n]; all rows contiguous; bias may be null. */
API void stoker_linear(const float *x, const float *w, const float *bias, float *y, long m, long n,
                       long k) {
    if (m <= MAX_STREAMED_ROWS) {
        multiply_streamed((product){x, w, bias, y, k, k, n, m, n, k, 0});
        return;
    }
    for (long row = 0; bias && row < m; row++)
        memcpy(y + row * n, bias, (size_t)n * sizeof(float));
    openblas_sgemm(ROW_MAJOR, NO_TRANSPOSE, TRANSPOSE, m, n, k, 1.0f, x, k, w, k,
                   bias ? 1.0f : 0.0f, y, n);
}

API void cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                     const float *a, int lda, const float *b, int ldb, float beta, float *c,
                     int ldc) {
    if (order == ROW_MAJOR && trans_a == NO_TRANSPOSE && trans_b == TRANSPOSE &&
        m <= MAX_STREAMED_ROWS && alpha == 1.0f && beta == 0.0f)
        multiply_streamed((product){a, b, 0, c, lda, ldb, ldc, m, n, k, 0});
    else
        openblas_sgemm(order, trans_a, trans_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
