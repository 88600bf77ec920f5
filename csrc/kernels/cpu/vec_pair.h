// Two vectors as one, or four as a pair of pairs. A long chain of dependent operations leaves the
// arithmetic units idle most of the time; several chains, written down operation by operation in
// turn, leave them idle less, and share the constants.
#pragma once

#include <cstdint>

namespace zoo {
namespace {

template <typename V>
struct Pair {
  struct Mask {
    typename V::Mask a, b;
  };
  static constexpr int64_t kLanes = 2 * V::kLanes;

  V a, b;

  static Pair zero() { return {V::zero(), V::zero()}; }
  template <typename T>
  static Pair broadcast(T x) {
    return {V::broadcast(x), V::broadcast(x)};
  }
  template <typename T>
  static Pair load(const T* p) {
    return {V::load(p), V::load(p + V::kLanes)};
  }
  template <typename T>
  void store(T* p) const {
    a.store(p);
    b.store(p + V::kLanes);
  }

  friend Pair operator+(Pair x, Pair y) { return {x.a + y.a, x.b + y.b}; }
  friend Pair operator-(Pair x, Pair y) { return {x.a - y.a, x.b - y.b}; }
  friend Pair operator*(Pair x, Pair y) { return {x.a * y.a, x.b * y.b}; }
  friend Pair operator/(Pair x, Pair y) { return {x.a / y.a, x.b / y.b}; }
  friend Pair fma(Pair x, Pair y, Pair z) { return {fma(x.a, y.a, z.a), fma(x.b, y.b, z.b)}; }
  friend Pair max(Pair x, Pair y) { return {max(x.a, y.a), max(x.b, y.b)}; }
  friend Pair min(Pair x, Pair y) { return {min(x.a, y.a), min(x.b, y.b)}; }
  friend Mask greater(Pair x, Pair y) { return {greater(x.a, y.a), greater(x.b, y.b)}; }
  friend Mask at_most(Pair x, Pair y) { return {at_most(x.a, y.a), at_most(x.b, y.b)}; }
  friend Pair select(Mask m, Pair yes, Pair no) {
    return {select(m.a, yes.a, no.a), select(m.b, yes.b, no.b)};
  }
  friend Pair abs(Pair x) { return {abs(x.a), abs(x.b)}; }
  friend Pair with_sign(Pair x, Pair y) { return {with_sign(x.a, y.a), with_sign(x.b, y.b)}; }
  friend Pair round(Pair x) { return {round(x.a), round(x.b)}; }
  friend Pair power_of_last_bits(Pair x) {
    return {power_of_last_bits(x.a), power_of_last_bits(x.b)};
  }
  friend Pair scale(Pair x, Pair n) { return {scale(x.a, n.a), scale(x.b, n.b)}; }
};

// What long computations take at a time; vec_math.h says where it is more than a vector.
template <typename T>
struct Together {
  using Type = Vec<T>;
};

}  // namespace
}  // namespace zoo
