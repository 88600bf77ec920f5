#include "pack.h"

#include "table.h"

namespace zoo {
namespace {

int64_t panels(int64_t channels) { return (channels + kPanel - 1) / kPanel; }

}  // namespace

Packing packing_of(int64_t out_channels, int64_t in_channels_per_group, int64_t groups) {
  return in_channels_per_group == 1 && groups == out_channels ? Packing::depthwise : Packing::gemm;
}

int64_t packed_size(int64_t out_channels, int64_t in_channels_per_group, int64_t kernel_h,
                    int64_t kernel_w, int64_t groups) {
  const int64_t window = kernel_h * kernel_w;
  if (packing_of(out_channels, in_channels_per_group, groups) == Packing::depthwise) {
    return window * panels(out_channels) * kPanel;
  }
  return groups * panels(out_channels / groups) * window * in_channels_per_group * kPanel;
}

template <typename T>
void pack_weight(const T* weight, const Strides& strides, int64_t out_channels,
                 int64_t in_channels_per_group, int64_t kernel_h, int64_t kernel_w, int64_t groups,
                 T* packed) {
  if (packing_of(out_channels, in_channels_per_group, groups) == Packing::depthwise) {
    const int64_t padded = panels(out_channels) * kPanel;
    for (int64_t r = 0; r < kernel_h; ++r) {
      for (int64_t s = 0; s < kernel_w; ++s) {
        for (int64_t o = 0; o < padded; ++o) {
          *packed++ =
              o < out_channels ? weight[o * strides.n + r * strides.h + s * strides.w] : T(0);
        }
      }
    }
    return;
  }
  const int64_t per_group = out_channels / groups;
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t first = 0; first < per_group; first += kPanel) {
      const int64_t columns = per_group - first < kPanel ? per_group - first : kPanel;
      const T* panel = weight + (g * per_group + first) * strides.n;
      for (int64_t r = 0; r < kernel_h; ++r) {
        for (int64_t s = 0; s < kernel_w; ++s) {
          for (int64_t c = 0; c < in_channels_per_group; ++c, packed += kPanel) {
            const T* from = panel + c * strides.c + r * strides.h + s * strides.w;
            for (int64_t j = 0; j < kPanel; ++j) {
              packed[j] = j < columns ? from[j * strides.n] : T(0);
            }
          }
        }
      }
    }
  }
}

template void pack_weight<float>(const float*, const Strides&, int64_t, int64_t, int64_t, int64_t,
                                 int64_t, float*);
template void pack_weight<double>(const double*, const Strides&, int64_t, int64_t, int64_t, int64_t,
                                  int64_t, double*);

}  // namespace zoo
