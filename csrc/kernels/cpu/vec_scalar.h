// The portable vector: four floats or two doubles, by the vector extension of GCC and clang, so
// that every processor has it (SSE2 on x86-64). Also the plain definition of what each operation
// of the other vec_*.h means; exp, tanh and the like come from libm, lane by lane.
#pragma once

#include <cstdint>

namespace zoo {
namespace {

template <typename T>
struct Vec {
  using Native [[gnu::vector_size(16)]] = T;
  using Mask = decltype(Native{} < Native{});
  static constexpr int64_t kLanes = 16 / sizeof(T);
  // The tile of the GEMM microkernel, in rows and vectors: what 16 registers hold.
  static constexpr int kTileRows = 6, kTileVecs = 2;

  Native v;

  static Vec zero() { return {Native{}}; }
  static Vec broadcast(T x) { return {x - Native{}}; }
  static Vec load(const T* p) {
    Vec r;
    __builtin_memcpy(&r.v, p, sizeof(r.v));
    return r;
  }
  // The first n lanes, 0 <= n <= kLanes; the others are 0 and their memory is not touched.
  static Vec load(const T* p, int64_t n) {
    Vec r = zero();
    for (int64_t i = 0; i < n; ++i) r.v[i] = p[i];
    return r;
  }
  // p[0], p[2], p[4], ...
  static Vec load_even(const T* p) {
    Vec r;
    for (int64_t i = 0; i < kLanes; ++i) r.v[i] = p[2 * i];
    return r;
  }
  // a[0], a[2], ..., b[0], b[2], ...
  friend Vec even(Vec a, Vec b) {
    Vec r;
    for (int64_t i = 0; i < kLanes / 2; ++i) {
      r.v[i] = a.v[2 * i];
      r.v[i + kLanes / 2] = b.v[2 * i];
    }
    return r;
  }
  // Lane i is x[places[i]], which is of the same half of the vector.
  friend Vec permute(Vec x, const int32_t* places) {
    Vec r;
    for (int64_t i = 0; i < kLanes; ++i) r.v[i] = x.v[places[i]];
    return r;
  }
  void store(T* p) const { __builtin_memcpy(p, &v, sizeof(v)); }
  void store(T* p, int64_t n) const {
    for (int64_t i = 0; i < n; ++i) p[i] = v[i];
  }
  // To memory, past the caches, where the instruction set can; p is aligned to the vector. Other
  // threads see it after fence().
  void stream(T* p) const { store(p); }
  static void fence() {}

  friend Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
  friend Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
  friend Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
  friend Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
  // a * b + c
  friend Vec fma(Vec a, Vec b, Vec c) { return {a.v * b.v + c.v}; }
  // c - a * b
  friend Vec fnma(Vec a, Vec b, Vec c) { return {c.v - a.v * b.v}; }
  // Where b is NaN the result is NaN; where only a is, it is not defined.
  friend Vec max(Vec a, Vec b) { return {a.v > b.v ? a.v : b.v}; }
  friend Vec min(Vec a, Vec b) { return {a.v < b.v ? a.v : b.v}; }
  friend Mask greater(Vec a, Vec b) { return a.v > b.v; }
  friend Mask at_most(Vec a, Vec b) { return a.v <= b.v; }
  friend Mask is_nan(Vec a) { return a.v != a.v; }
  // Where a, b or both are NaN.
  friend Mask unordered(Vec a, Vec b) { return (a.v != a.v) | (b.v != b.v); }
  static Mask either(Mask a, Mask b) { return a | b; }
  static bool any(Mask m) {
    bool on = false;
    for (int64_t i = 0; i < kLanes; ++i) on |= m[i] != 0;
    return on;
  }
  // A bit for each lane that is on, the first lane's last.
  static uint32_t bits(Mask m) {
    uint32_t all = 0;
    for (int64_t i = 0; i < kLanes; ++i) all |= (m[i] != 0 ? 1u : 0u) << i;
    return all;
  }
  // The same backwards; bits beyond the lanes are not looked at.
  static Mask of_bits(uint32_t bits) {
    Mask m;
    for (int64_t i = 0; i < kLanes; ++i) m[i] = (bits >> i & 1) != 0 ? -1 : 0;
    return m;
  }
  friend Vec select(Mask m, Vec yes, Vec no) { return {m ? yes.v : no.v}; }

  friend Vec exp(Vec x) {
    for (int64_t i = 0; i < kLanes; ++i) x.v[i] = static_cast<T>(__builtin_exp(x.v[i]));
    return x;
  }
  friend Vec sigmoid_denominator(Vec x) { return broadcast(1) + exp(zero() - x); }
  friend Vec tanh(Vec x) {
    for (int64_t i = 0; i < kLanes; ++i) x.v[i] = static_cast<T>(__builtin_tanh(x.v[i]));
    return x;
  }
  friend Vec normal_cdf(Vec x) {
    for (int64_t i = 0; i < kLanes; ++i) {
      x.v[i] = static_cast<T>(__builtin_erfc(x.v[i] * -0.70710678118654752440) * 0.5);
    }
    return x;
  }
};

}  // namespace
}  // namespace zoo
