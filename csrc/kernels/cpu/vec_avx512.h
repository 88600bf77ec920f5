// Sixteen floats in an AVX-512 register. The operations are defined in vec_scalar.h.
#pragma once

#include <cstdint>

#ifdef ZOO_EMULATE_AVX512  // the tests' way to run this file on a machine without AVX-512
#include <simde/x86/avx512.h>
#else
#include <immintrin.h>
#endif

#if defined(__GNUC__) && !defined(__clang__)
// GCC's own headers start "undefined" registers from themselves (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace zoo {
namespace {

#ifdef ZOO_EMULATE_AVX512  // what SIMDe 0.7 does not have
inline __m512 _mm512_maskz_loadu_ps(__mmask16 m, const void* p) {
  float lanes[16];
  for (int i = 0; i < 16; ++i) lanes[i] = (m >> i) & 1 ? static_cast<const float*>(p)[i] : 0.0f;
  return _mm512_loadu_ps(lanes);
}
inline void _mm512_mask_storeu_ps(void* p, __mmask16 m, __m512 v) {
  float lanes[16];
  _mm512_storeu_ps(lanes, v);
  for (int i = 0; i < 16; ++i) {
    if ((m >> i) & 1) static_cast<float*>(p)[i] = lanes[i];
  }
}
inline void _mm512_stream_ps(float* p, __m512 v) { _mm512_storeu_ps(p, v); }
#endif

template <typename T>
struct Vec;

template <>
struct Vec<float> {
  using Mask = __mmask16;
  static constexpr int64_t kLanes = 16;
  static constexpr int kTileRows = 14, kTileVecs = 2;  // 28 of 32 registers accumulate

  __m512 v;

  static __mmask16 first(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
  static Vec zero() { return {_mm512_setzero_ps()}; }
  static Vec broadcast(float x) { return {_mm512_set1_ps(x)}; }
  static Vec load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Vec load(const float* p, int64_t n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
  static Vec load_even(const float* p) {
    // The second load starts at p + 15, so that nothing after p[30] is touched: the even
    // elements of its half are at odd places, 16 + 1, 16 + 3, ...
    const __m512i places =
        _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 14, 12, 10, 8, 6, 4, 2, 0);
    return {_mm512_permutex2var_ps(_mm512_loadu_ps(p), places, _mm512_loadu_ps(p + 15))};
  }
  friend Vec even(Vec a, Vec b) {
    const __m512i places =
        _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    return {_mm512_permutex2var_ps(a.v, places, b.v)};
  }
  friend Vec permute(Vec x, const int32_t* places) {
    return {_mm512_permutexvar_ps(_mm512_loadu_si512(places), x.v)};
  }
  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void stream(float* p) const { _mm512_stream_ps(p, v); }
  static void fence() { _mm_sfence(); }
  void store(float* p, int64_t n) const { _mm512_mask_storeu_ps(p, first(n), v); }

  friend Vec operator+(Vec a, Vec b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend Vec operator-(Vec a, Vec b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend Vec operator*(Vec a, Vec b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend Vec operator/(Vec a, Vec b) { return {_mm512_div_ps(a.v, b.v)}; }
  friend Vec fma(Vec a, Vec b, Vec c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  friend Vec fnma(Vec a, Vec b, Vec c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
  friend Vec max(Vec a, Vec b) { return {_mm512_max_ps(a.v, b.v)}; }
  friend Vec min(Vec a, Vec b) { return {_mm512_min_ps(a.v, b.v)}; }
  friend Mask greater(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ); }
  friend Mask at_most(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LE_OQ); }
  friend Mask is_nan(Vec a) { return unordered(a, a); }
  friend Mask unordered(Vec a, Vec b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_UNORD_Q); }
  static Mask either(Mask a, Mask b) { return static_cast<Mask>(a | b); }
  static bool any(Mask m) { return m != 0; }
  static uint32_t bits(Mask m) { return m; }
  static Mask of_bits(uint32_t bits) { return static_cast<Mask>(bits); }
  friend Vec select(Mask m, Vec yes, Vec no) { return {_mm512_mask_blend_ps(m, no.v, yes.v)}; }

  // For vec_math.h.
  friend Vec abs(Vec x) { return {_mm512_abs_ps(x.v)}; }
  friend Vec with_sign(Vec magnitude, Vec sign) {
    return {_mm512_or_ps(magnitude.v, _mm512_and_ps(_mm512_set1_ps(-0.0f), sign.v))};
  }
  friend Vec round(Vec x) {
    return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
  }
  friend Vec scale(Vec x, Vec n) { return {_mm512_scalef_ps(x.v, n.v)}; }
  // 2^n for the n in [-127, 128] in the last bits; 0 for -127 and infinite for 128.
  friend Vec power_of_last_bits(Vec x) {
    const __m512i biased = _mm512_add_epi32(_mm512_castps_si512(x.v), _mm512_set1_epi32(127));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(biased, 23))};
  }
};

}  // namespace
}  // namespace zoo

#include "vec_math.h"
