// exp, tanh and the like of Vec<float>, and of pairs of them, for instruction sets without them:
// range reduction and polynomials, fitted to float by iteratively reweighted least squares
// (Lawson's algorithm for the minimax problem). Errors, checked by tests/csrc: a few units in the
// last place.
#pragma once

#include <cstdint>

#include "vec_pair.h"

namespace zoo {
namespace {

template <>
struct Together<float> {
  using Type = Pair<Pair<Vec<float>>>;
};

// c[0] + c[1] x + c[2] x^2 + ..., by Horner's rule
template <typename V, int N>
[[gnu::always_inline]] inline V polynomial(V x, const float (&c)[N]) {
  V sum = V::broadcast(c[N - 1]);
  for (int i = N - 2; i >= 0; --i) sum = fma(sum, x, V::broadcast(c[i]));
  return sum;
}

// exp(r) for x = n ln 2 + r with |r| <= ln 2 / 2.
template <typename V>
[[gnu::always_inline]] inline V exp_of_rest(V x, V n) {
  constexpr float kTail[] = {0.4999999403953552f, 0.1666651964187622f, 0.041668396443128586f,
                             0.008368796668946743f, 0.0013814433477818966f};
  // ln 2 in two parts; the first has few bits, so that its product with n is exact.
  V r = fma(n, V::broadcast(-0.693359375f), x);
  r = fma(n, V::broadcast(2.12194440e-4f), r);
  return fma(r * r, polynomial(r, kTail), r) + V::broadcast(1.0f);
}

// exp(x) = 2^n exp(r). Overflows to infinity and underflows through the denormals to 0, as libm
// does.
template <typename V>
[[gnu::always_inline]] inline V exp(V x) {
  x = min(V::broadcast(90.0f), max(V::broadcast(-105.0f), x));
  const V n = round(x * V::broadcast(1.44269504088896341f));
  return scale(exp_of_rest(x, n), n);
}

// 1 + exp(-x), the denominator of the sigmoid. Where it is as good as 1 or infinite it is just
// that: one scaling serves, where exp takes two.
template <typename V>
[[gnu::always_inline]] inline V sigmoid_denominator(V x) {
  constexpr float kWhole = 12582912.0f;  // 1.5 * 2^23: a sum with it is rounded to a whole number
  x = min(V::broadcast(88.9f), max(V::broadcast(-88.0f), V::zero() - x));
  const V shifted = fma(x, V::broadcast(1.44269504088896341f), V::broadcast(kWhole));
  const V power = power_of_last_bits(shifted);
  return fma(exp_of_rest(x, shifted - V::broadcast(kWhole)), power, V::broadcast(1.0f));
}

template <typename V>
[[gnu::always_inline]] inline V tanh(V x) {
  constexpr float kSmall[] = {-0.3333333134651184f, 0.13333210349082947f,  -0.05394720286130905f,
                              0.021702965721488f,   -0.00818267185240984f, 0.00214753532782197f};
  const V a = abs(x), square = x * x, one = V::broadcast(1.0f);
  const V small = fma(x * square, polynomial(square, kSmall), x);  // |x| <= 0.625
  const V e = exp(a * V::broadcast(-2.0f));
  const V large = with_sign((one - e) / (one + e), x);
  return select(greater(a, V::broadcast(0.625f)), large, small);
}

// The normal distribution's cumulative function: for x < 0 a quotient of polynomials in -x that has
// a fourfold root where the function is as good as 0, so that it keeps its digits where it is
// small; for x > 0 what is left to 1.
template <typename V>
[[gnu::always_inline]] inline V normal_cdf(V x) {
  constexpr float kAbove[] = {0.0002801022201310843f, -0.00020267216314096004f,
                              5.60439148102887e-05f, -7.006520263530547e-06f,
                              3.336773488626932e-07f};
  constexpr float kBelow[] = {1.0f,
                              -0.5410673022270203f,
                              0.3556857109069824f,
                              -0.11479306221008301f,
                              0.0368611142039299f,
                              -0.006227272097021341f,
                              0.0008809766732156277f};
  const V end = V::broadcast(6.5f), a = min(end, abs(x));
  V root = end - a;
  root = root * root;
  const V below = root * root * polynomial(a, kAbove) / polynomial(a, kBelow);
  return select(greater(x, V::zero()), V::broadcast(1.0f) - below, below);
}

}  // namespace
}  // namespace zoo
