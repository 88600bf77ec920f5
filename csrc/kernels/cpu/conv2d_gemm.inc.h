// Any convolution as a matrix product, without the matrix: C = A B, where a row of A is what the
// window sees at one output pixel and B holds the packed weights (table.h).
//
// A unit of work is a block of output pixels times a slice of panels (32 output channels each).
// For each depth block, the pixels' part of A is copied to a buffer that fits in L2; then, panel
// by panel, the microkernel multiplies tiles of kTileRows pixels by kTileVecs vectors of channels
// that stay in registers. A finished panel goes, while it is in L1, through bias, residual and
// activation to the output, or to the map that the fused pool reads.
//
// Where a unit has few pixels (linear layers, squeeze-and-excitation), reading B is all the work:
// then the pixels' whole depth is copied first, and a strip is read at four places at a time, or
// two strips at two.
#pragma once

#include "activation.inc.h"
#include "common.inc.h"
#include "conv2d_gemm_plan.inc.h"
#include "conv2d_gemm_tile.inc.h"
#include "conv2d_pooled.inc.h"
#include "layout.inc.h"

namespace zoo {
namespace {

// The last vector overlaps the one before it; a copy shorter than a vector may write (but not
// read) up to a vector beyond n.
template <typename T>
inline void copy_loosely(T* to, const T* from, int64_t n) {
  using V = Vec<T>;
  if (n < V::kLanes) return V::load(from, n).store(to);
  int64_t i = 0;
  for (; i + V::kLanes < n; i += V::kLanes) V::load(from + i).store(to + i);
  V::load(from + n - V::kLanes).store(to + n - V::kLanes);
}

template <typename T>
inline void zero_loosely(T* to, int64_t n) {
  for (; n > 0; n -= Vec<T>::kLanes, to += Vec<T>::kLanes) Vec<T>::zero().store(to);
}

template <typename T>
struct Gemm {
  using V = Vec<T>;
  const Conv2dParams& p;
  const GemmPlan& plan;
  const T* input;
  Strides in;  // of input; channels together
  const T* weight;
  const T* bias;
  const T* residual;
  char* workspace;
  bool around;  // the output is streamed

  static constexpr int64_t kTileColumns = V::kTileVecs * V::kLanes;
  static constexpr GemmTiles<T, LongRows> kTiles = GemmTiles<T, LongRows>::make();
  static constexpr GemmTiles<T, MapRows> kMapTiles = GemmTiles<T, MapRows>::make();
  static constexpr StreamTiles<T> kStreamTiles = StreamTiles<T>::make();

  // Whether a row of a window lies together in memory, channels of a column after those of the
  // column before.
  bool together(int64_t channels) const { return p.window.dilation_w == 1 && in.w == channels; }

  // Columns [from, from + n) of a row of windows, each of kernel_w * C/groups, one row of the map
  // at `line`. The window starts at map column w0.
  [[gnu::noinline]] void pack_line(const T* line, int64_t w0, int64_t from, int64_t n,
                                   T* to) const {
    const Window& w = p.window;
    const int64_t channels = p.in_channels / p.groups;
    if (together(channels)) {
      const Range taps = taps_inside(w0, w.kernel_w, 1, p.in_w);
      const int64_t left = clamp(taps.begin * channels - from, 0, n);
      const int64_t inside = clamp(taps.end * channels - from, left, n) - left;
      zero_loosely(to, left);
      if (inside > 0) {
        copy_loosely(to + left, line + w0 * in.w + from + left, inside);
      }
      zero_loosely(to + left + inside, n - left - inside);
      return;
    }
    for (int64_t s = from / channels, c = from - s * channels; n > 0; ++s, c = 0) {
      const int64_t run = lesser(channels - c, n), column = w0 + s * w.dilation_w;
      if (column < 0 || column >= p.in_w) {
        zero_loosely(to, run);
      } else {
        copy_loosely(to, line + column * in.w + c, run);
      }
      to += run;
      n -= run;
    }
  }

  // A: this depth of each pixel's window.
  [[gnu::noinline]] void pack(const GemmPixel* pixels, int64_t rows, int64_t group, Range depth,
                              T* a) const {
    const Window& w = p.window;
    const int64_t channels = p.in_channels / p.groups, line = w.kernel_w * channels;
    const bool dense = together(channels);
    for (int64_t k = depth.begin; k < depth.end;) {
      const int64_t r = k / line, from = k - r * line, n = lesser(line - from, depth.end - k);
      const T* const top = input + group * channels * in.c + r * w.dilation_h * in.h;
      T* to = a + (k - depth.begin);
      for (int64_t i = 0; i < rows; ++i, to += plan.a_row) {
        const GemmPixel& pixel = pixels[i];
        const int64_t h = pixel.h0 + r * w.dilation_h;
        if (h < 0 || h >= p.in_h) {
          zero_loosely(to, n);
          continue;
        }
        const T* const row = top + pixel.input + pixel.h0 * in.h;
        if (dense && pixel.w0 >= 0 && pixel.w0 + w.kernel_w <= p.in_w) {
          copy_loosely(to, row + pixel.w0 * in.w + from, n);
        } else {
          pack_line(row, pixel.w0, from, n, to);
        }
      }
      k += n;
    }
  }

  // A where it is: in the map, or copied to `a`.
  const T* rows_of_a(const GemmPixel* pixels, int64_t rows, int64_t group, Range depth,
                     T* a) const {
    if (plan.in_place) {
      return input + pixels[0].input + pixels[0].h0 * in.h + pixels[0].w0 * in.w +
             group * (p.in_channels / p.groups) * in.c + depth.begin;
    }
    pack(pixels, rows, group, depth, a);
    return a;
  }

  // Bias, residual and activation of a finished panel, and its way out.
  [[gnu::noinline]] void finish(T* c, const GemmPixel* pixels, int64_t rows, int64_t channel,
                                int64_t columns, const Target<T>& target) const {
    alignas(64) T shift[kPanel] = {};
    if (bias != nullptr) {
      __builtin_memcpy(shift, bias + channel, static_cast<std::size_t>(columns) * sizeof(T));
    }
    T* const to = target.data + (channel - target.channel) * target.strides.c;
    const T* const more = residual == nullptr ? nullptr : residual + channel * p.residual.c;
    const bool vectors = target.strides.c == 1, whole = columns == kPanel;
    // Other activations are computed in place, over all rows at once.
    const bool simple = is_simple(p.activation);
    const V least = V::broadcast(least_of<T>(p.activation));
    for (int64_t i = 0; i < rows; ++i) {
      T* const from = c + i * kPanel;
      T* const row = vectors && simple ? to + pixels[i].output : from;
      const T* const extra = more == nullptr ? nullptr : more + pixels[i].residual;
      if (whole) {
        if (around && simple) {
          finish_row<true, true>(from, shift, extra, kPanel, least, row);
        } else {
          finish_row<true>(from, shift, extra, kPanel, least, row);
        }
      } else {
        finish_row<false>(from, shift, extra, columns, least, row);
      }
    }
    if (!simple) activate_rows(p.activation, c, rows, kPanel, columns);
    if (!vectors) return scatter(c, pixels, rows, columns, to, target.strides);
    for (int64_t i = 0; !simple && i < rows; ++i) {
      for (int64_t j = 0; j < columns; j += V::kLanes) {
        const int64_t n = lesser(V::kLanes, columns - j);
        store_lanes(V::load(c + i * kPanel + j), to + pixels[i].output + j, 1, n);
      }
    }
  }

  template <bool kWhole, bool kStream = false>
  void finish_row(const T* c, const T* shift, const T* extra, int64_t columns, V least,
                  T* to) const {
    for (int64_t j = 0; j < columns; j += V::kLanes) {
      const int64_t n = kWhole ? V::kLanes : lesser(V::kLanes, columns - j);
      V x = V::load(c + j) + V::load(shift + j);
      if (extra != nullptr) x = x + load_lanes(extra + j * p.residual.c, p.residual.c, n);
      x = max(least, x);
      if (kStream) {
        x.stream(to + j);
      } else if (kWhole) {
        x.store(to + j);
      } else {
        x.store(to + j, n);
      }
    }
  }

  // A panel to a layout whose channels are apart: pixels that follow each other, channel by
  // channel.
  static void scatter(const T* c, const GemmPixel* pixels, int64_t rows, int64_t columns, T* to,
                      const Strides& strides) {
    for (int64_t begin = 0, end = 1; begin < rows; begin = end++) {
      while (end < rows && pixels[end].output - pixels[end - 1].output == strides.w) ++end;
      from_channels_last(c + begin * kPanel, kPanel, to + pixels[begin].output, strides,
                         end - begin, columns);
    }
  }

  // Output pixels [block.begin, block.end), counted over images, rows and columns, times panels.
  void unit(int64_t group, Range panels, Range block, const Target<T>& target,
            int32_t thread) const {
    char* memory = workspace + thread * plan.thread_bytes();
    T* const a = reinterpret_cast<T*>(memory);
    T* const sums = reinterpret_cast<T*>(memory + plan.a_bytes);
    GemmPixel* const pixels = reinterpret_cast<GemmPixel*>(memory + plan.a_bytes + plan.c_bytes);

    const int64_t rows = block.end - block.begin;
    const Window& w = p.window;
    int64_t x = block.begin % p.out_w, rest = block.begin / p.out_w;
    int64_t y = rest % p.out_h, image = rest / p.out_h;
    for (int64_t i = 0; i < rows; ++i) {
      pixels[i] = {image * in.n, y * w.stride_h - w.pad_h, x * w.stride_w - w.pad_w,
                   target.at(image, target.channel, y, x) - target.data,
                   offset(p.residual, image, 0, y, x)};
      if (++x < p.out_w) continue;
      x = 0;
      if (++y < p.out_h) continue;
      y = 0;
      ++image;
    }

    if (plan.streams) return stream(group, panels, pixels, rows, a, sums, target);
    const int64_t group_out = p.out_channels / p.groups;
    const T* const fetched = p.residual.c == 1 ? residual : nullptr;
    for (int64_t d = 0; d < plan.depth_blocks; ++d) {
      const Range depth = depths(d);
      const bool last = d + 1 == plan.depth_blocks;
      GemmColumns<T> at;
      at.depth = depth.end - depth.begin;
      at.a = rows_of_a(pixels, rows, group, depth, a);
      at.next = plan.in_place ? in.w : plan.a_row;
      at.strip = plan.depth * kStrip;
      at.ahead_step = ceil_div(kStrip, ceil_div(rows, Vec<T>::kTileRows));
      at.add = d > 0;
      at.pixels = pixels;
      for (int64_t panel = panels.begin; panel < panels.end; ++panel) {
        const int64_t channel = group * group_out + panel * kPanel;
        const int64_t columns = lesser(kPanel, group_out - panel * kPanel);
        T* const c =
            plan.depth_blocks > 1 ? sums + (panel - panels.begin) * plan.rows * kPanel : sums;
        const T* const b =
            weight + (group * plan.panels + panel) * plan.depth * kPanel + depth.begin * kStrip;
        for (int64_t j = 0; j < columns; j += kTileColumns) {
          at.b = b + in_panel(j, plan.depth);
          at.c = c + j;
          // What the next columns need, the panel's second strip or the panel after it: each tile
          // fetches a share, for one alone would ask for more at a time than L3 gives.
          at.ahead = j + kTileColumns < columns ? b + in_panel(j + kTileColumns, plan.depth)
                                                : b + plan.depth * kPanel;
          at.residual = last && fetched != nullptr ? fetched + channel + j : nullptr;
          if (plan.in_place) {
            kMapTiles(at, rows);
          } else {
            kTiles(at, rows);
          }
        }
        if (last) finish(c, pixels, rows, channel, columns, target);
      }
    }
  }

  Range depths(int64_t block) const {
    return {block * plan.depth_block, lesser((block + 1) * plan.depth_block, plan.depth)};
  }

  // A unit of few rows.
  void stream(int64_t group, Range panels, const GemmPixel* pixels, int64_t rows, T* a, T* sums,
              const Target<T>& target) const {
    using Tiles = StreamTiles<T>;
    const int64_t tiles = ceil_div(rows, Tiles::kRows), tile_rows = ceil_div(rows, tiles);
    const int64_t tile_columns = Tiles::vecs(tile_rows) * Vec<T>::kLanes;
    const int64_t places = Tiles::places(tile_rows), most = kDepthBlock / places;
    const int64_t group_out = p.out_channels / p.groups, apart = plan.depth / places;
    const int64_t streamed = apart * places, a_row = plan.in_place ? in.w : plan.a_row;
    const T* const from = rows_of_a(pixels, rows, group, {0, plan.depth}, a);
    for (int64_t panel = panels.begin; panel < panels.end; ++panel) {
      const int64_t columns = lesser(kPanel, group_out - panel * kPanel);
      const T* const b = weight + (group * plan.panels + panel) * plan.depth * kPanel;
      const auto block = [&](const auto& run, int64_t k, int64_t depth) {
        for (int64_t j = 0; j < columns; j += tile_columns) {
          for (int64_t t = 0; t < tiles; ++t) {
            const Range tile = part(rows, tiles, t);
            run[tile.end - tile.begin - 1](depth, apart, from + tile.begin * a_row + k, a_row,
                                           b + in_panel(j, plan.depth) + k * kStrip,
                                           plan.depth * kStrip, sums + tile.begin * kPanel + j,
                                           k > 0);
          }
        }
      };
      for (int64_t k = 0; k < apart; k += most) block(kStreamTiles.run, k, lesser(most, apart - k));
      if (streamed < plan.depth) block(kStreamTiles.rest, streamed, plan.depth - streamed);
      finish(sums, pixels, rows, group * group_out + panel * kPanel, columns, target);
    }
  }

  void direct(T* output, const Parallel& parallel) const {
    const Target<T> target{output, p.output};
    const int64_t pixels = p.batch * p.out_h * p.out_w;
    const int64_t units = pixels > 0 ? plan.row_blocks * p.groups * plan.slices : 0;
    parallel_for(parallel, units, [&](int64_t begin, int64_t end, int32_t thread) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t rest = i / plan.slices;
        unit(rest % p.groups, part(plan.panels, plan.slices, i % plan.slices),
             part(pixels, plan.row_blocks, rest / p.groups), target, thread);
      }
      if (around) V::fence();
    });
  }

  void pooled(T* output, const Parallel& parallel) const {
    const int64_t strips = plan.pooled.strips, group_out = p.out_channels / p.groups;
    const int64_t units = p.pool_h * p.pool_w > 0 ? p.batch * p.groups * plan.slices * strips : 0;
    const int64_t map_channels = plan.slice_panels * kPanel;
    const Strides map_strides{0, 1, p.out_w * map_channels, map_channels};
    parallel_for(parallel, units, [&](int64_t begin, int64_t end, int32_t thread) {
      char* const memory = workspace + (thread + 1) * plan.thread_bytes() - plan.map_bytes;
      for (int64_t i = begin; i < end; ++i) {
        int64_t rest = i / strips;
        const Range panels = part(plan.panels, plan.slices, rest % plan.slices);
        rest /= plan.slices;
        const int64_t group = rest % p.groups, image = rest / p.groups;
        const Range channels{group * group_out + panels.begin * kPanel,
                             group * group_out + lesser(panels.end * kPanel, group_out)};
        pooled_strip(p, plan.pooled, image, channels, part(p.pool_h, strips, i % strips),
                     reinterpret_cast<T*>(memory), map_strides, output,
                     [&](Range rows, const Target<T>& target) {
                       const int64_t first = (image * p.out_h + rows.begin) * p.out_w;
                       const int64_t count = (rows.end - rows.begin) * p.out_w;
                       const int64_t blocks = ceil_div(count, plan.rows);
                       for (int64_t b = 0; b < blocks; ++b) {
                         const Range block = part(count, blocks, b);
                         unit(group, panels, {first + block.begin, first + block.end}, target,
                              thread);
                       }
                     });
      }
    });
  }
};

template <typename T>
int64_t gemm_workspace_bytes(const Conv2dParams& p, int32_t threads) {
  const GemmPlan plan = plan_gemm<T>(p, threads);
  return (plan.staged ? staging_bytes<T>(p) : 0) + plan.thread_bytes() * threads;
}

template <typename T>
void gemm_run(const Conv2dParams& p, const T* input, const T* weight, const T* bias,
              const T* residual, T* output, void* workspace, const Parallel& parallel) {
  const GemmPlan plan = plan_gemm<T>(p, parallel.threads);
  Gemm<T> gemm{p,
               plan,
               input,
               p.input,
               weight,
               bias,
               residual,
               static_cast<char*>(workspace),
               writes_around(p, residual, output)};
  if (plan.staged) {
    T* const staged = static_cast<T*>(workspace);
    to_channels_last(p, input, staged, parallel);
    gemm.input = staged;
    gemm.in = staged_strides(p);
    gemm.workspace += staging_bytes<T>(p);
  }
  if (p.pool == Pool::none) {
    gemm.direct(output, parallel);
  } else {
    gemm.pooled(output, parallel);
  }
}

}  // namespace
}  // namespace zoo
