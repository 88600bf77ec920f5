#include "pack.h"

#include <algorithm>
#include <cstring>

#include "table.h"
#include "transpose.h"

namespace zoo {
namespace {

int64_t panels(int64_t channels) { return (channels + kPanel - 1) / kPanel; }

constexpr int kLanes = static_cast<int>(kStrip);  // filters side by side

// G of F(4, 3) and F(2, 3), at the points that cpu/conv2d_winograd_transform.inc.h names: row p is
// (1, p, p^2) over the product of p's distances from the other points, the last row for infinity.
// line() applies it to three taps; the points of the result are `step` apart.
struct Transform4 {
  static constexpr int kPoints = 6;

  template <typename T>
  static void line(const double* a, const double* b, const double* c, T* __restrict to,
                   int64_t step) {
    constexpr double kThird = 1. / 3, kRoot = 1.41421356237309504880;
    for (int j = 0; j < kLanes; ++j) {
      const double even1 = -kThird * (2 * a[j] + c[j]), odd1 = -kThird * kRoot * b[j];
      const double even2 = kThird * (0.5 * a[j] + c[j]), odd2 = kThird * kRoot / 2 * b[j];
      to[j] = static_cast<T>(a[j]);
      to[step + j] = static_cast<T>(even1 + odd1);
      to[2 * step + j] = static_cast<T>(even1 - odd1);
      to[3 * step + j] = static_cast<T>(even2 + odd2);
      to[4 * step + j] = static_cast<T>(even2 - odd2);
      to[5 * step + j] = static_cast<T>(c[j]);
    }
  }
};
struct Transform2 {
  static constexpr int kPoints = 4;

  template <typename T>
  static void line(const double* a, const double* b, const double* c, T* __restrict to,
                   int64_t step) {
    for (int j = 0; j < kLanes; ++j) {
      const double even = 0.5 * (a[j] + c[j]), odd = 0.5 * b[j];
      to[j] = static_cast<T>(a[j]);
      to[step + j] = static_cast<T>(even + odd);
      to[2 * step + j] = static_cast<T>(even - odd);
      to[3 * step + j] = static_cast<T>(c[j]);
    }
  }
};

// Whether a filter lies in memory as (channel, tap) without gaps.
bool dense(const Strides& strides, const WeightSize& size) {
  return strides.w == 1 && strides.h == size.kernel_w && strides.c == size.kernel_h * size.kernel_w;
}

// to[(c * 9 + tap) * kStrip + j]: channel c, of `count`, of filter j, of `columns`, with 3x3 taps.
template <typename T>
void gather(const T* weight, const Strides& strides, int64_t columns, int64_t count, T* to) {
  if (dense(strides, {0, 0, 3, 3})) {
    return transpose(weight, strides.n, to, kStrip, columns, count * 9);
  }
  for (int64_t tap = 0; tap < 9; ++tap) {
    const T* const from = weight + tap / 3 * strides.h + tap % 3 * strides.w;
    if (strides.n == 1) {
      for (int64_t c = 0; c < count; ++c) {
        std::memcpy(to + (c * 9 + tap) * kStrip, from + c * strides.c,
                    static_cast<std::size_t>(columns) * sizeof(T));
      }
      continue;
    }
    for (int64_t j = 0; j < columns; ++j) {
      for (int64_t c = 0; c < count; ++c) {
        to[(c * 9 + tap) * kStrip + j] = from[j * strides.n + c * strides.c];
      }
    }
  }
}

// G g G' of a strip; in double, rounded once. A few channels are collected before they go to their
// places: the points of one lie so far apart that they would all share a few sets of the cache.
template <typename Transform, typename T>
void pack_winograd(const T* weight, const Strides& strides, int64_t columns, int64_t channels,
                   T* packed) {
  constexpr int kPoints = Transform::kPoints, kTogether = 4;
  alignas(64) T filters[kTogether][9][kLanes] = {};
  alignas(64) double g[9][kLanes], half_done[3][kPoints][kLanes];
  alignas(64) T done[kPoints * kPoints][kTogether][kLanes];
  for (int64_t first = 0; first < channels; first += kTogether) {
    const int64_t count = channels - first < kTogether ? channels - first : kTogether;
    gather(weight + first * strides.c, strides, columns, count, filters[0][0]);
    for (int64_t c = 0; c < count; ++c) {
      for (int tap = 0; tap < 9; ++tap) {
        for (int j = 0; j < kLanes; ++j) g[tap][j] = static_cast<double>(filters[c][tap][j]);
      }
      for (int s = 0; s < 3; ++s) {
        Transform::line(g[s], g[3 + s], g[6 + s], half_done[s][0], kLanes);
      }
      for (int i = 0; i < kPoints; ++i) {
        Transform::line(half_done[0][i], half_done[1][i], half_done[2][i], done[i * kPoints][c],
                        kTogether * kLanes);
      }
    }
    for (int i = 0; i < kPoints * kPoints; ++i) {
      std::memcpy(packed + i * channels * kPanel + first * kStrip, done[i],
                  static_cast<std::size_t>(count * kStrip) * sizeof(T));
    }
  }
}

// Both ways turn over short pieces of all filters at a time: whole filters may lie so far apart
// that a line of each, all in a few sets of the cache, would be lost before its next element.
template <typename T>
void pack_gemm(const T* strip, const Strides& strides, int64_t columns, const WeightSize& size,
               T* packed) {
  constexpr int64_t kPiece = 128;
  const int64_t taps = size.kernel_h * size.kernel_w, channels = size.in_channels;
  if (taps > 1 && dense(strides, size)) {
    alignas(64) T turned[kPiece * kStrip] = {};
    int64_t tap = 0, c = 0;
    for (int64_t first = 0; first < channels * taps; first += kPiece) {
      const int64_t rest = channels * taps - first, count = rest < kPiece ? rest : kPiece;
      transpose(strip + first, strides.n, turned, kStrip, columns, count);
      for (int64_t i = 0; i < count; ++i) {
        std::memcpy(packed + (tap * channels + c) * kStrip, turned + i * kStrip,
                    sizeof(T) * kLanes);
        if (++tap == taps) tap = 0, ++c;
      }
    }
    return;
  }
  if (columns < kStrip) {
    std::memset(packed, 0, sizeof(T) * static_cast<std::size_t>(taps * channels * kStrip));
  }
  for (int64_t tap = 0; tap < taps; ++tap) {
    const T* const from = strip + tap / size.kernel_w * strides.h + tap % size.kernel_w * strides.w;
    for (int64_t first = 0; first < channels; first += kPiece) {
      const int64_t rest = channels - first, count = rest < kPiece ? rest : kPiece;
      T* const to = packed + (tap * channels + first) * kStrip;
      if (strides.c == 1) {
        transpose(from + first, strides.n, to, kStrip, columns, count);
        continue;
      }
      if (strides.n == 1) {
        for (int64_t c = 0; c < count; ++c) {
          std::memcpy(to + c * kStrip, from + (first + c) * strides.c,
                      static_cast<std::size_t>(columns) * sizeof(T));
        }
        continue;
      }
      for (int64_t j = 0; j < columns; ++j) {
        for (int64_t c = 0; c < count; ++c) {
          to[c * kStrip + j] = from[j * strides.n + (first + c) * strides.c];
        }
      }
    }
  }
}

template <typename T>
void pack_depthwise(const T* weight, const Strides& strides, const WeightSize& size, T* packed) {
  const int64_t padded = depthwise_width(size.out_channels);
  for (int64_t r = 0; r < size.kernel_h; ++r) {
    for (int64_t s = 0; s < size.kernel_w; ++s) {
      for (int64_t o = 0; o < padded; ++o) {
        *packed++ =
            o < size.out_channels ? weight[o * strides.n + r * strides.h + s * strides.w] : T(0);
      }
    }
  }
}

// What a part of a panel's layout has of each (filter, channel): taps, or points.
int64_t taps(Packing packing, const WeightSize& size) {
  if (packing == Packing::winograd4) return Transform4::kPoints * Transform4::kPoints;
  if (packing == Packing::winograd2) return Transform2::kPoints * Transform2::kPoints;
  return size.kernel_h * size.kernel_w;
}

}  // namespace

Packing direct_packing(const WeightSize& size, int64_t groups) {
  return size.in_channels == 1 && groups == size.out_channels ? Packing::depthwise : Packing::gemm;
}

const char* packing_declines(Packing packing, const WeightSize& size, int64_t groups) {
  if (is_winograd(packing)) {
    if (size.kernel_h != 3 || size.kernel_w != 3) return "Winograd takes 3x3 windows only";
    return groups == 1 ? nullptr : "Winograd takes one group only";
  }
  if (packing == direct_packing(size, groups)) return nullptr;
  return packing == Packing::depthwise ? "not depthwise (groups == in_channels == out_channels)"
                                       : "depthwise weights have a layout of their own";
}

const char* packing_declines(Packing packing, const Window& window) {
  if (!is_winograd(packing)) return nullptr;
  if (window.stride_h != 1 || window.stride_w != 1) return "Winograd takes stride 1 only";
  return window.dilation_h == 1 && window.dilation_w == 1 ? nullptr
                                                          : "Winograd takes dilation 1 only";
}

int64_t packed_size(Packing packing, const WeightSize& size, int64_t groups) {
  const int64_t each = taps(packing, size);
  if (packing == Packing::depthwise) return each * depthwise_width(size.out_channels);
  return groups * panels(size.out_channels / groups) * each * size.in_channels * kPanel;
}

bool recognise_packing(int64_t count, const WeightSize& size, int64_t groups, Packing* packing) {
  constexpr Packing kAll[] = {Packing::gemm, Packing::depthwise, Packing::winograd4,
                              Packing::winograd2};
  for (Packing one : kAll) {
    if (packing_declines(one, size, groups) != nullptr) continue;
    if (packed_size(one, size, groups) != count) continue;
    *packing = one;
    return true;
  }
  return false;
}

int64_t packed_parts(Packing packing, const WeightSize& size, int64_t groups) {
  return packing == Packing::depthwise ? 1 : groups * panels(size.out_channels / groups);
}

template <typename T>
void pack_part(Packing packing, const T* weight, const Strides& strides, const WeightSize& size,
               int64_t groups, int64_t part, T* packed) {
  if (packing == Packing::depthwise) return pack_depthwise(weight, strides, size, packed);
  // A part is a panel of one group.
  const int64_t per_group = size.out_channels / groups, first = part % panels(per_group) * kPanel;
  const T* from = weight + (part / panels(per_group) * per_group + first) * strides.n;
  T* const to = packed + part * taps(packing, size) * size.in_channels * kPanel;
  for (int64_t j = 0; j < kPanel; j += kStrip, from += kStrip * strides.n) {
    const int64_t columns = std::clamp<int64_t>(per_group - first - j, 0, kStrip);
    switch (packing) {
      case Packing::winograd4:
        pack_winograd<Transform4>(from, strides, columns, size.in_channels,
                                  to + in_panel(j, size.in_channels));
        break;
      case Packing::winograd2:
        pack_winograd<Transform2>(from, strides, columns, size.in_channels,
                                  to + in_panel(j, size.in_channels));
        break;
      default:
        pack_gemm(from, strides, columns, size,
                  to + in_panel(j, taps(packing, size) * size.in_channels));
    }
  }
}

template void pack_part<float>(Packing, const float*, const Strides&, const WeightSize&, int64_t,
                               int64_t, float*);
template void pack_part<double>(Packing, const double*, const Strides&, const WeightSize&, int64_t,
                                int64_t, double*);

}  // namespace zoo
