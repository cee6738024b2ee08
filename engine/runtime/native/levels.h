/* Levels of 4 or 8 bits as numbers, and 16-bit floats. */
#ifndef STOKER_LEVELS_H
#define STOKER_LEVELS_H

#include <math.h>
#include <stdint.h>

#include "stoker.h"

enum { GROUP = 32 }; /* levels that are unpacked together */

typedef uint8_t bytes __attribute__((vector_size(LANES)));

/* Lanes v * LANES and on of a group, as numbers from 0. */
INLINE vec unpack(const uint8_t *group, const int v, const int bits) {
    const int at = v * LANES, half = bits == 4 ? GROUP / 2 : GROUP;
#if LANES == 16
    const __m512i wide = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(group + at % half)));
    const __m512i level =
        bits == 8 ? wide
                  : (at < half ? _mm512_and_si512(wide, _mm512_set1_epi32(15))
                               : _mm512_srli_epi32(wide, 4));
    return (vec)_mm512_cvtepi32_ps(level);
#elif LANES == 8 && defined(__AVX2__)
    const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(group + at % half)));
    const __m256i level = bits == 8 ? wide
                                    : (at < half ? _mm256_and_si256(wide, _mm256_set1_epi32(15))
                                                 : _mm256_srli_epi32(wide, 4));
    return (vec)_mm256_cvtepi32_ps(level);
#else
    bytes part;
    memcpy(&part, group + at % half, sizeof part);
    if (bits == 4) part = at < half ? part & 15 : part >> 4;
    return __builtin_convertvector(__builtin_convertvector(part, ivec), vec);
#endif
}

enum { HALF_NAN = 0x7e00, LARGEST_HALF = 0x7bff };

/* The nearest 16-bit float; what is too large becomes the largest. */
INLINE uint16_t to_half(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    const uint32_t size = bits & 0x7fffffff;
    if (size > 0x7f800000) return HALF_NAN;
    if (size >= 0x477fe000) return sign | LARGEST_HALF;
    if (size < 0x38800000) return sign | (uint16_t)rintf(fabsf(value) * 0x1p24f);
    return sign | (uint16_t)((size + 0xfff + (size >> 13 & 1) - 0x38000000) >> 13);
}

/* Branch-free, so that the compiler does many at once. */
INLINE float from_half(uint16_t half) {
    const uint32_t size = half & 0x7fff, sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t bits = size << 13;
    float value;
    memcpy(&value, &bits, sizeof value);
    value *= 0x1p112f;
    memcpy(&bits, &value, sizeof bits);
    bits = (size >= 0x7c00 ? 0x7fc00000 : bits) | sign;
    memcpy(&value, &bits, sizeof value);
    return value;
}

#endif
