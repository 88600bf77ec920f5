// A convolution of little depth (kernel_h * kernel_w * C) by its definition, without copying
// windows as the GEMM does: that would take longer than multiplying.
//
// A unit of work is a block of output rows and columns times a slice of panels (32 filters each, in
// the GEMM's layout). The input that the block sees is copied once to lines, padded with zeros; or
// where nothing has to be padded, it stays where it is. What a depth step (row, column, channel)
// adds to the address of a pixel's input is the same for all pixels: a table of these offsets makes
// every window, stride, dilation and layout the same to the microkernel. Where the output's
// channels are together, the lanes of its vectors are filters; where the columns are, pixels.
#pragma once

#include "activation.inc.h"
#include "conv2d_direct_plan.inc.h"
#include "conv2d_direct_tile.inc.h"

namespace zoo {
namespace {

template <typename T>
struct Direct {
  using V = Vec<T>;
  static constexpr int64_t kLanes = V::kLanes, kTileLanes = V::kTileVecs * kLanes;
  static constexpr int64_t kLine = 64 / int64_t{sizeof(T)};
  static constexpr DirectTiles<T> kTiles = DirectTiles<T>::make();

  const Conv2dParams& p;
  const DirectPlan& plan;
  const T* input;
  const T* weight;
  const T* bias;
  const T* residual;
  char* workspace;
  bool around;  // the output is streamed

  int64_t* offsets() const { return reinterpret_cast<int64_t*>(workspace); }
  int32_t* places() const { return reinterpret_cast<int32_t*>(workspace + plan.offsets_bytes); }
  T* group_weights() const {
    return reinterpret_cast<T*>(workspace + plan.offsets_bytes + plan.places_bytes);
  }
  char* memory(int32_t thread) const {
    return workspace + plan.shared_bytes() + thread * plan.thread_bytes();
  }
  bool pixel_lanes() const { return plan.lanes == Lanes::pixels; }
  bool narrow_groups() const { return plan.lanes == Lanes::narrow_groups; }

  void set_offsets() const {
    const Window& w = p.window;
    int64_t* to = offsets();
    for (int64_t r = 0; r < w.kernel_h; ++r) {
      for (int64_t s = 0; s < w.kernel_w; ++s) {
        const int64_t x = s * w.dilation_w;
        const int64_t tap = r * w.dilation_h * plan.line + x % plan.phases * plan.phase +
                            x / plan.phases * plan.column;
        for (int64_t c = 0; c < p.in_channels / p.groups; ++c) {
          *to++ = tap + (narrow_groups() ? 0 : c * plan.channel);
        }
      }
    }
  }

  // Of narrow groups: which lane sees which channel of a vector, and the weights of several groups
  // in one panel.
  void join_groups() const {
    const int64_t group = p.in_channels / p.groups;
    for (int64_t c = 0; c < group; ++c) {
      for (int64_t i = 0; i < kLanes; ++i) {
        places()[c * kLanes + i] = static_cast<int32_t>(i / group * group + c);
      }
    }
    for (int64_t g = 0; g < p.groups; ++g) {
      const int64_t first = g * group;
      const T* from = weight + g * plan.depth * kPanel;
      T* to = group_weights() + in_panel(first, plan.depth);
      for (int64_t k = 0; k < plan.depth; ++k, from += kStrip, to += kStrip) {
        for (int64_t i = 0; i < group; ++i) to[i] = from[i];
      }
    }
  }

  static void zero(T* to, int64_t n) {
    for (; n >= kLanes; n -= kLanes, to += kLanes) V::zero().store(to);
    if (n > 0) V::zero().store(to, n);
  }

  // n elements that are `stride` apart.
  static void gather(T* to, const T* from, int64_t stride, int64_t n) {
    const auto all = [&](auto load) {
      for (; n >= kLanes; n -= kLanes, to += kLanes, from += kLanes * stride) load(from).store(to);
    };
    if (stride == 1) all(LoadAll<T>{});
    if (stride == 2) all(LoadEven<T>{});
    if (stride == 1 && n > 0) return V::load(from, n).store(to, n);
    for (int64_t i = 0; i < n; ++i) to[i] = from[i * stride];
  }

  // One row of the map from column w0 on, where `row` is column 0; null for a row of padding. All
  // of the line is written: vectors reach behind the last column, and denormals that lay there
  // would take long.
  [[gnu::noinline]] void fill_line(const T* row, int64_t w0, T* line) const {
    if (row == nullptr) return zero(line, plan.line);
    const int64_t begin = clamp(-w0, 0, plan.in_columns);
    const int64_t end = clamp(p.in_w - w0, begin, plan.in_columns);
    if (plan.column != 1 || p.in_channels == 1) {  // channels together
      const int64_t c = p.in_channels;
      if (plan.phases == 1) {
        zero(line, begin * c);
        if (p.input.w == c || c == 1) {
          gather(line + begin * c, row + (w0 + begin) * p.input.w, c == 1 ? p.input.w : 1,
                 (end - begin) * c);
        } else {
          for (int64_t x = begin; x < end; ++x) {
            gather(line + x * c, row + (w0 + x) * p.input.w, 1, c);
          }
        }
        return zero(line + end * c, plan.line - end * c);
      }
    }
    for (int64_t phase = 0; phase < plan.phases; ++phase) {
      const auto places = [&](int64_t x) { return larger(ceil_div(x - phase, plan.phases), 0); };
      const int64_t first = places(begin), last = places(end);
      const T* from = row + (w0 + phase + first * plan.phases) * p.input.w;
      T* to = line + phase * plan.phase;
      for (int64_t c = 0; c < p.in_channels; ++c, from += p.input.c, to += plan.channel) {
        zero(to, first);
        gather(to + first, from, plan.phases * p.input.w, last - first);
        zero(to + last, plan.channel - last);
      }
    }
  }

  // The same of a piece's channels alone, which lie together.
  [[gnu::noinline]] void fill_piece(const T* row, int64_t w0, int64_t piece, T* line) const {
    if (row == nullptr) return zero(line, plan.line);
    const int64_t begin = clamp(-w0, 0, plan.in_columns);
    const int64_t end = clamp(p.in_w - w0, begin, plan.in_columns);
    const int64_t c = plan.piece_channels;
    zero(line, begin * c);
    const T* from = row + (w0 + begin) * p.input.w + piece * c;
    T* to = line + begin * c;
    if (c == kStrip) {  // the most usual, without loops of two steps
      for (int64_t x = begin; x < end; ++x, from += p.input.w, to += kStrip) {
        ZOO_UNROLL
        for (int64_t i = 0; i < kStrip; i += kLanes) V::load(from + i).store(to + i);
      }
    } else {
      for (int64_t x = begin; x < end; ++x, from += p.input.w, to += c) gather(to, from, 1, c);
    }
    zero(line + end * c, (plan.in_columns - end) * c);
  }

  // The input of a block, or what one piece sees of it; returns where that of its first output is.
  const T* lines(int64_t image, Range ys, Range xs, int64_t piece, int32_t thread) const {
    const Window& w = p.window;
    const int64_t h0 = ys.begin * w.stride_h - w.pad_h, w0 = xs.begin * w.stride_w - w.pad_w;
    if (plan.in_place) return input + offset(p.input, image, 0, h0, w0);
    T* const to = reinterpret_cast<T*>(memory(thread));
    const int64_t rows = (ys.end - ys.begin - 1) * w.stride_h + (w.kernel_h - 1) * w.dilation_h + 1;
    for (int64_t r = 0; r < rows; ++r) {
      const bool inside = h0 + r >= 0 && h0 + r < p.in_h;
      const T* const row = inside ? input + image * p.input.n + (h0 + r) * p.input.h : nullptr;
      if (plan.cut) {
        fill_piece(row, w0, piece, to + r * plan.line);
      } else {
        fill_line(row, w0, to + r * plan.line);
      }
    }
    return to;
  }

  // How the rows and lanes of a tile lie in the output and the residual.
  struct Out {
    int64_t row, lane, extra_row, extra_lane;
    bool straight;  // vectors can be stored as they are
  };

  // Bias and products of a tile to its place, the slow way: any strides and lanes.
  void finish(DirectRow<T> row, const Out& out, int64_t rows, int64_t vecs, int64_t lanes) const {
    alignas(64) T sums[V::kTileRows * kTileLanes];
    T* const to = row.to;
    const T* const extra = row.extra;
    row.to = sums;
    row.to_row = vecs * kLanes;
    row.last = kLanes;
    row.extra = nullptr;
    row.least = least_of<T>(Activation::none);
    row.around = false;
    kTiles.run(plan.lanes, vecs, rows)(row, 1);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < lanes; j += kLanes) {
        const int64_t n = lesser(kLanes, lanes - j);
        V x = V::load(sums + i * vecs * kLanes + j);
        if (extra != nullptr) {
          x = x + load_lanes(extra + i * out.extra_row + j * out.extra_lane, out.extra_lane, n);
        }
        store_lanes(activate(p.activation, x), to + i * out.row + j * out.lane, out.lane, n);
      }
    }
  }

  // `count` tiles side by side, `pixels` apart; `row` moves on behind them.
  void tiles(DirectRow<T>& row, const Out& out, int64_t count, int64_t pixels, int64_t rows,
             int64_t vecs, int64_t lanes) const {
    const int64_t to_pixel = pixel_lanes() ? out.lane : out.row;
    const int64_t extra_pixel = pixel_lanes() ? out.extra_lane : out.extra_row;
    const auto advance = [&](int64_t n) {
      row.x += n * row.step;
      row.to += n * to_pixel;
      if (row.extra != nullptr) row.extra += n * extra_pixel;
    };
    row.last = lanes - (vecs - 1) * kLanes;
    if (out.straight) {
      kTiles.run(plan.lanes, vecs, rows)(row, count);
      if (!is_simple(p.activation)) {
        const bool across = pixel_lanes();  // tiles side by side lengthen the rows
        activate_rows(p.activation, row.to, across ? rows : rows * count, out.row,
                      across ? lanes * count : lanes);
      }
      row.ahead += count * row.share;
      return advance(count * pixels);
    }
    for (int64_t i = 0; i < count; ++i, advance(pixels)) finish(row, out, rows, vecs, lanes);
  }

  // A row of `pixels` outputs of `filters` filters, as many as a tile has.
  void line(DirectRow<T> row, const Out& out, int64_t pixels, int64_t filters) const {
    if (!pixel_lanes()) {
      const int64_t vecs = ceil_div(filters, kLanes);
      const int64_t count = ceil_div(pixels, direct_rows<T>(vecs));
      const int64_t size = pixels / count, longer = pixels % count;
      if (longer > 0) tiles(row, out, longer, size + 1, size + 1, vecs, filters);
      return tiles(row, out, count - longer, size, size, vecs, filters);
    }
    const int64_t whole = pixels / kTileLanes;
    if (whole > 0) tiles(row, out, whole, kTileLanes, filters, V::kTileVecs, kTileLanes);
    for (int64_t rest = pixels - whole * kTileLanes; rest > 0;) {
      // The last vector overlaps the one before it.
      const bool wide = rest > kLanes && pixels >= kTileLanes;
      const int64_t lanes = lesser(wide ? kTileLanes : kLanes, pixels), back = lanes - rest;
      if (back > 0) {
        row.x -= back;
        row.to -= back * out.lane;
        if (row.extra != nullptr) row.extra -= back * out.extra_lane;
      }
      tiles(row, out, 1, lanes, filters, wide ? V::kTileVecs : 1, lanes);
      rest -= lanes;
    }
  }

  // All outputs of a block, of as many filters from `channel` on as a tile has.
  void block(DirectRow<T> row, const Out& out, int64_t image, Range ys, Range xs, int64_t channel,
             int64_t filters, const Target<T>& target) const {
    const int64_t height = ys.end - ys.begin, width = xs.end - xs.begin;
    const int64_t vecs = ceil_div(filters, kLanes);
    const int64_t line_tiles = ceil_div(width, direct_rows<T>(vecs));
    // A group does little with its weights before the next one's have to be there.
    row.share = p.groups > 1 && !pixel_lanes()
                    ? round_up(ceil_div(plan.depth * vecs * kLanes, height * line_tiles), kLine)
                    : 0;
    for (int64_t y = ys.begin; y < ys.end; ++y) {
      row.to = target.at(image, channel, y, xs.begin);
      row.extra = residual == nullptr ? nullptr
                                      : residual + offset(p.residual, image, channel, y, xs.begin);
      line(row, out, width, filters);
      row.x += p.window.stride_h * plan.line;
      row.ahead += line_tiles * row.share;
    }
  }

  // Of a panel, or one behind the last.
  int64_t first_channel(int64_t panel) const {
    if (narrow_groups()) return panel * kPanel;
    return panel / plan.group_panels * (p.out_channels / p.groups) +
           panel % plan.group_panels * kPanel;
  }

  void unit(int64_t image, Range ys, Range xs, Range panels, const Target<T>& target,
            int32_t thread) const {
    const T* seen = nullptr;
    DirectRow<T> row{};
    row.depth = plan.depth;
    row.offsets = offsets();
    row.places = places();
    row.group = p.in_channels / p.groups;
    row.step = pixel_lanes() ? 1 : p.window.stride_w * plan.column;
    row.least = least_of<T>(p.activation);
    row.around = around && is_simple(p.activation);
    const Strides &o = target.strides, &e = p.residual;
    Out out = pixel_lanes() ? Out{o.c, o.w, e.c, e.w, false} : Out{o.w, o.c, e.w, e.c, false};
    out.straight = out.lane == 1 && (residual == nullptr || out.extra_lane == 1);
    row.to_row = out.row;
    row.extra_row = out.extra_row;
    for (int64_t panel = panels.begin; panel < panels.end; ++panel) {
      const int64_t group = panel / plan.group_panels, first = first_channel(panel);
      const int64_t filters =
          narrow_groups() ? kPanel
                          : lesser(kPanel, (group + 1) * (p.out_channels / p.groups) - first);
      const int64_t piece = panel / plan.piece_panels;
      if (panel == panels.begin || (plan.cut && panel % plan.piece_panels == 0)) {
        seen = lines(image, ys, xs, piece, thread);
      }
      const T* const x = seen + (plan.cut ? 0 : piece * plan.piece);
      const T* const weights = narrow_groups() ? group_weights() : weight;
      alignas(64) T shift[kPanel] = {};
      if (bias != nullptr) {
        __builtin_memcpy(shift, bias + first, static_cast<std::size_t>(filters) * sizeof(T));
      }
      // Rows of a tile are of one strip.
      const int64_t width = pixel_lanes() ? kStrip : kTileLanes, tile_rows = V::kTileRows;
      const T* const b = weights + panel * plan.depth * kPanel;
      for (int64_t j = 0; j < filters; j += width) {
        const int64_t some = lesser(width, filters - j);
        const int64_t parts = pixel_lanes() ? ceil_div(some, tile_rows) : 1;
        row.ahead = b + in_panel(j + width < filters ? j + width : kPanel, plan.depth);
        for (int64_t i = 0; i < parts; ++i) {
          const Range of = part(some, parts, i);
          row.x = x + (narrow_groups() ? j : 0);
          row.b = b + in_panel(j + of.begin, plan.depth);
          row.shift = shift + j + of.begin;
          block(row, out, image, ys, xs, first + j + of.begin, of.end - of.begin, target);
        }
      }
    }
  }

  void plain(T* output, const Parallel& parallel) const {
    const Target<T> target{output, p.output};
    const int64_t blocks = plan.row_blocks * plan.column_blocks;
    const int64_t units = p.out_h * p.out_w > 0 ? p.batch * blocks * plan.slices : 0;
    parallel_for(parallel, units, [&](int64_t begin, int64_t end, int32_t thread) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t block = i / plan.slices % blocks, image = i / plan.slices / blocks;
        unit(image, part(p.out_h, plan.row_blocks, block / plan.column_blocks),
             part(p.out_w, plan.column_blocks, block % plan.column_blocks),
             part(plan.panels, plan.slices, i % plan.slices), target, thread);
      }
      if (around) V::fence();
    });
  }

  void pooled(T* output, const Parallel& parallel) const {
    const int64_t strips = plan.pooled.strips;
    const int64_t units = p.pool_h * p.pool_w > 0 ? p.batch * plan.slices * strips : 0;
    parallel_for(parallel, units, [&](int64_t begin, int64_t end, int32_t thread) {
      T* const map = reinterpret_cast<T*>(memory(thread) + plan.lines_bytes);
      for (int64_t i = begin; i < end; ++i) {
        const Range panels = part(plan.panels, plan.slices, i / strips % plan.slices);
        const Range channels{first_channel(panels.begin), first_channel(panels.end)};
        const int64_t image = i / strips / plan.slices, count = channels.end - channels.begin;
        const Strides map_strides{0, 1, count * p.out_w, count};
        pooled_strip(p, plan.pooled, image, channels, part(p.pool_h, strips, i % strips), map,
                     map_strides, output, [&](Range rows, const Target<T>& target) {
                       const int64_t blocks = ceil_div(rows.end - rows.begin, plan.rows);
                       for (int64_t b = 0; b < blocks * plan.column_blocks; ++b) {
                         const Range ys =
                             part(rows.end - rows.begin, blocks, b / plan.column_blocks);
                         unit(image, {rows.begin + ys.begin, rows.begin + ys.end},
                              part(p.out_w, plan.column_blocks, b % plan.column_blocks), panels,
                              target, thread);
                       }
                     });
      }
    });
  }
};

template <typename T>
int64_t direct_workspace_bytes(const Conv2dParams& params, int32_t threads) {
  const DirectPlan plan = plan_direct<T>(join_rows(params), threads);
  return plan.shared_bytes() + plan.thread_bytes() * threads;
}

template <typename T>
void direct_run(const Conv2dParams& params, const T* input, const T* weight, const T* bias,
                const T* residual, T* output, void* workspace, const Parallel& parallel) {
  const Conv2dParams p = join_rows(params);
  const DirectPlan plan = plan_direct<T>(p, parallel.threads);
  const Direct<T> direct{p,
                         plan,
                         input,
                         weight,
                         bias,
                         residual,
                         static_cast<char*>(workspace),
                         writes_around(p, residual, output)};
  direct.set_offsets();
  if (direct.narrow_groups()) direct.join_groups();
  if (p.pool == Pool::none) {
    direct.plain(output, parallel);
  } else {
    direct.pooled(output, parallel);
  }
}

}  // namespace
}  // namespace zoo
