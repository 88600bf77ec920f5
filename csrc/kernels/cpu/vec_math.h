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

// Twice the normal distribution's cumulative function, 1 + erf(x / sqrt 2): (Q + x P) / Q, with
// polynomials P and Q in x^2. Where it is as good as 0 or 2 it is just that.
template <typename V>
[[gnu::always_inline]] inline V twice_normal_cdf(V x) {
  constexpr float kP[] = {0.7978845238685608f,    0.06705772131681442f,    0.009310515597462654f,
                          0.0003304304846096784f, 1.2598142347997054e-05f, 4.5662954306635584e-08f};
  constexpr float kQ[] = {1.0f,
                          0.25071078538894653f,
                          0.028454845771193504f,
                          0.0018642968498170376f,
                          7.233676296891645e-05f,
                          1.195938011733233e-06f};
  const V end = V::broadcast(5.54737043f);
  x = min(end, max(V::zero() - end, x));
  const V square = x * x, q = polynomial(square, kQ);
  return max(V::zero(), fma(x, polynomial(square, kP), q)) / q;
}

}  // namespace
}  // namespace zoo
