// A whole network as a list of steps on memory that is planned beforehand: one call runs it,
// without Python, dispatcher or allocation between steps of ours. zoo/compiler writes such lists.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/pack.h"
#include "kernels/params.h"

namespace zoo::plan {

// A tensor inside a buffer. Several may share one: views, and slices of a concatenation.
struct View {
  int64_t buffer = 0;
  int64_t offset = 0;  // in elements
  std::vector<int64_t> sizes, strides;
};

// What holds a plan's values while it runs.
enum class Storage : int32_t {
  arena,     // at a fixed offset of memory that is used again and again
  constant,  // a weight
  input,     // what the caller gives
  output,    // fresh memory at each run, given to the caller
  foreign,   // what an op that is not ours returned
};

struct Buffer {
  Storage storage = Storage::arena;
  c10::ScalarType dtype = c10::ScalarType::Float;
  int64_t where = 0;    // arena: offset in bytes; input: its number; output: elements
  at::Tensor constant;  // constant only
};

// The memory of one run. Runs at the same time have a frame each.
class Frame {
 public:
  Frame(const std::vector<Buffer>& buffers, int64_t arena_bytes);

  template <typename T>
  T* data(const View& view) const {
    return static_cast<T*>(bases_[view.buffer]) + view.offset;
  }
  at::Tensor tensor(const View& view) const;
  void* workspace() const { return workspace_; }
  int32_t threads() const { return threads_; }

  // result: where the outputs go, if there is one; otherwise they get memory of their own.
  void begin(const std::vector<at::Tensor>& inputs, int64_t workspace_offset, int32_t threads,
             const at::Tensor& result = {});
  void hold(int64_t buffer, at::Tensor tensor);
  void end();

 private:
  const std::vector<Buffer>& buffers_;
  at::Tensor arena_;
  std::vector<void*> bases_;
  std::vector<at::Tensor> tensors_;  // by buffer; undefined for those in the arena
  void* workspace_ = nullptr;
  int32_t threads_ = 1;
};

class Step {
 public:
  virtual ~Step() = default;
  virtual void run(Frame& frame) const = 0;
  virtual int64_t workspace_bytes() const { return 0; }
  // What does the work, for reports.
  virtual std::string kernel() const = 0;
};

// Packed weights, made once for all plans of a model. Keeps the plain ones alive.
class PackedWeights {
 public:
  // scale, if there is one, is what each filter is multiplied by: one number for each.
  at::Tensor get(const at::Tensor& weight, const std::optional<at::Tensor>& scale, Packing packing,
                 int64_t groups);
  // A copy of what is not packed, a bias say, in which later changes of the model's do not show.
  at::Tensor copy(const at::Tensor& constant);
  int64_t bytes() const;

 private:
  // Where, sizes, strides, layout (none for a copy), where the scale is.
  using Key = std::tuple<const void*, std::vector<int64_t>, std::vector<int64_t>,
                         std::optional<Packing>, const void*>;
  struct Entry {
    at::Tensor made, plain, scale;  // the last two so that their addresses stay theirs
  };
  mutable std::mutex mutex_;
  std::map<Key, Entry> all_;
};

class Plan {
 public:
  // Steps that run so many threads, where the work is worth it.
  Plan(int32_t threads, std::shared_ptr<PackedWeights> weights)
      : threads_(threads), weights_(std::move(weights)) {}

  int32_t threads() const { return threads_; }
  PackedWeights& weights() const { return *weights_; }
  int64_t add_buffer(Buffer buffer);
  void add_step(std::unique_ptr<Step> step) { steps_.push_back(std::move(step)); }
  // After the last step; arena_bytes does not count the workspaces.
  void finish(int64_t arena_bytes, std::vector<View> outputs);

  // Inputs have the sizes, strides and dtypes that the plan was made for. Thread-safe. times, if
  // not null, gets the nanoseconds of each step.
  std::vector<at::Tensor> run(const std::vector<at::Tensor>& inputs,
                              std::vector<int64_t>* times = nullptr);
  // The plan is of a part of a batch: for inputs of so many parts, run each by one thread, several
  // at a time. The one output, whose memory is all its own, is put together along the batch.
  at::Tensor run_parts(const std::vector<at::Tensor>& inputs, int64_t parts);
  std::vector<std::string> kernels() const;
  int64_t arena_bytes() const { return workspace_offset_ + workspace_bytes_; }

 private:
  void check(const std::vector<at::Tensor>& inputs) const;
  std::unique_ptr<Frame> take_frame();
  void give_back(std::unique_ptr<Frame> frame);

  int32_t threads_;
  std::shared_ptr<PackedWeights> weights_;
  std::vector<Buffer> buffers_;
  std::vector<std::unique_ptr<Step>> steps_;
  std::vector<View> outputs_;
  int64_t workspace_offset_ = 0, workspace_bytes_ = 0;
  size_t inputs_ = 0;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Frame>> idle_;
};

}  // namespace zoo::plan
