// Winograd's transformations of one line, for 3 taps. A tile of outputs is
//   Y = A' [(G g G') * (B' d B)] A
// with * element by element; B' and A' are here, G (on weights) is in pack.cpp. The matrices are
// those of Toom and Cook at the points named below: row p of B' holds the coefficients of the
// polynomial that vanishes at all other points, column p of A' the powers of p (Lavin and Gray,
// "Fast algorithms for convolutional neural networks", 2016; Barabasz et al., "Error analysis and
// improving the accuracy of Winograd convolution for deep neural networks", 2020).
#pragma once

#include "common.inc.h"

namespace zoo {
namespace {

// F(4, 3) at 0, a, -a, b, -b and infinity, for a = 1/sqrt 2 and b = sqrt 2: sums of even and odd
// powers serve a pair of points each. Integer points cost as much and lose four times as much.
struct Winograd4 {
  static constexpr int kOut = 4, kIn = 6;
  static constexpr double kA = 0.70710678118654752440, kB = 1.41421356237309504880;

  template <typename V, typename T>
  static void input(const V (&d)[kIn], V (&t)[kIn]) {
    const V a = V::broadcast(T(kA)), b = V::broadcast(T(kB));
    const V half = V::broadcast(T(0.5)), two = V::broadcast(T(2)), sum = V::broadcast(T(2.5));
    t[0] = fnma(sum, d[2], d[0] + d[4]);
    const V even_a = fnma(two, d[2], d[4]), odd_a = fnma(two, d[1], d[3]);
    t[1] = fma(a, odd_a, even_a);
    t[2] = fnma(a, odd_a, even_a);
    const V even_b = fnma(half, d[2], d[4]), odd_b = fnma(half, d[1], d[3]);
    t[3] = fma(b, odd_b, even_b);
    t[4] = fnma(b, odd_b, even_b);
    t[5] = fnma(sum, d[3], d[1] + d[5]);
  }

  template <typename V, typename T>
  static void output(const V (&m)[kIn], V (&y)[kOut]) {
    const V a = V::broadcast(T(kA)), b = V::broadcast(T(kB));
    const V half = V::broadcast(T(0.5)), two = V::broadcast(T(2));
    const V even_a = m[1] + m[2], odd_a = (m[1] - m[2]) * a;
    const V even_b = m[3] + m[4], odd_b = (m[3] - m[4]) * b;
    y[0] = m[0] + even_a + even_b;
    y[1] = odd_a + odd_b;
    y[2] = fma(half, even_a, two * even_b);
    y[3] = fma(half, odd_a, fma(two, odd_b, m[5]));
  }
};

// F(2, 3) at 0, 1, -1 and infinity.
struct Winograd2 {
  static constexpr int kOut = 2, kIn = 4;

  template <typename V, typename T>
  static void input(const V (&d)[kIn], V (&t)[kIn]) {
    t[0] = d[0] - d[2];
    t[1] = d[2] + d[1];
    t[2] = d[2] - d[1];
    t[3] = d[3] - d[1];
  }

  template <typename V, typename T>
  static void output(const V (&m)[kIn], V (&y)[kOut]) {
    y[0] = m[0] + m[1] + m[2];
    y[1] = m[1] - m[2] + m[3];
  }
};

}  // namespace
}  // namespace zoo
