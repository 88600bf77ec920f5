#include "plan/plan.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mul.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "ops/cpu/convolution.h"
#include "ops/parallel.h"

namespace zoo::plan {

Frame::Frame(const std::vector<Buffer>& buffers, int64_t arena_bytes)
    : buffers_(buffers),
      arena_(at::empty({arena_bytes}, at::kByte)),
      bases_(buffers.size()),
      tensors_(buffers.size()) {
  auto* const start = static_cast<char*>(arena_.mutable_data_ptr());
  for (size_t i = 0; i < buffers.size(); ++i) {
    const Buffer& buffer = buffers[i];
    if (buffer.storage == Storage::arena) bases_[i] = start + buffer.where;
    if (buffer.storage == Storage::constant) {
      // Read only; one type of pointer serves all buffers.
      bases_[i] = const_cast<void*>(buffer.constant.const_data_ptr());
      tensors_[i] = buffer.constant;
    }
  }
}

void Frame::begin(const std::vector<at::Tensor>& inputs, int64_t workspace_offset, int32_t threads,
                  const at::Tensor& result) {
  threads_ = threads;
  workspace_ = static_cast<char*>(arena_.mutable_data_ptr()) + workspace_offset;
  for (size_t i = 0; i < buffers_.size(); ++i) {
    const Buffer& buffer = buffers_[i];
    if (buffer.storage == Storage::input) {
      tensors_[i] = inputs[buffer.where];
      bases_[i] = const_cast<void*>(tensors_[i].const_data_ptr());
    } else if (buffer.storage == Storage::output) {
      hold(static_cast<int64_t>(i),
           result.defined() ? result : at::empty({buffer.where}, buffer.dtype));
    }
  }
}

void Frame::hold(int64_t buffer, at::Tensor tensor) {
  bases_[buffer] = const_cast<void*>(tensor.const_data_ptr());
  tensors_[buffer] = std::move(tensor);
}

void Frame::end() {
  for (size_t i = 0; i < buffers_.size(); ++i) {
    if (buffers_[i].storage != Storage::constant) tensors_[i] = at::Tensor();
  }
}

at::Tensor Frame::tensor(const View& view) const {
  const at::Tensor& owner = tensors_[view.buffer];
  if (owner.defined()) {
    return owner.as_strided(view.sizes, view.strides, owner.storage_offset() + view.offset);
  }
  const c10::ScalarType dtype = buffers_[view.buffer].dtype;
  void* const start = static_cast<char*>(bases_[view.buffer]) +
                      view.offset * static_cast<int64_t>(c10::elementSize(dtype));
  return at::from_blob(start, view.sizes, view.strides, at::TensorOptions(dtype));
}

at::Tensor PackedWeights::get(const at::Tensor& weight, const std::optional<at::Tensor>& scale,
                              Packing packing, int64_t groups) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Entry& entry = all_[{weight.const_data_ptr(), weight.sizes().vec(), weight.strides().vec(),
                       packing, scale ? scale->const_data_ptr() : nullptr}];
  if (!entry.made.defined()) {
    const c10::AutoGradMode guard(false);  // a module's own weight may want gradients
    const at::Tensor whole = scale ? at::mul(weight, scale->reshape({-1, 1, 1, 1})) : weight;
    entry = {ops::cpu::pack(whole, packing, groups), weight, scale.value_or(at::Tensor())};
  }
  return entry.made;
}

at::Tensor PackedWeights::copy(const at::Tensor& constant) {
  if (constant.is_mkldnn()) return constant;  // packed by oneDNN
  const std::lock_guard<std::mutex> lock(mutex_);
  Entry& entry = all_[{constant.const_data_ptr(), constant.sizes().vec(), constant.strides().vec(),
                       std::nullopt, nullptr}];
  if (!entry.made.defined()) {
    // All the memory that it reaches over: an expanded tensor's strides are kept.
    int64_t extent = constant.numel() > 0 ? 1 : 0;
    for (int64_t i = 0; extent > 0 && i < constant.dim(); ++i) {
      extent += (constant.size(i) - 1) * constant.stride(i);
    }
    const at::Tensor memory = constant.as_strided({extent}, {1}).clone();
    entry = {memory.as_strided(constant.sizes(), constant.strides(), 0), constant, {}};
  }
  return entry.made;
}

int64_t PackedWeights::bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  int64_t sum = 0;
  for (const auto& [key, entry] : all_) sum += static_cast<int64_t>(entry.made.nbytes());
  return sum;
}

int64_t Plan::add_buffer(Buffer buffer) {
  if (buffer.storage == Storage::input) {
    inputs_ = std::max(inputs_, static_cast<size_t>(buffer.where) + 1);
  }
  buffers_.push_back(std::move(buffer));
  return static_cast<int64_t>(buffers_.size()) - 1;
}

void Plan::finish(int64_t arena_bytes, std::vector<View> outputs) {
  outputs_ = std::move(outputs);
  workspace_offset_ = (arena_bytes + 63) / 64 * 64;
  for (const auto& step : steps_) {
    workspace_bytes_ = std::max(workspace_bytes_, step->workspace_bytes());
  }
}

void Plan::check(const std::vector<at::Tensor>& inputs) const {
  TORCH_CHECK(inputs.size() >= inputs_, "the plan reads ", inputs_, " inputs, not ", inputs.size());
}

std::unique_ptr<Frame> Plan::take_frame() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<Frame> frame = std::move(idle_.back());
      idle_.pop_back();
      return frame;
    }
  }
  return std::make_unique<Frame>(buffers_, arena_bytes());
}

void Plan::give_back(std::unique_ptr<Frame> frame) {
  frame->end();
  const std::lock_guard<std::mutex> lock(mutex_);
  idle_.push_back(std::move(frame));
}

std::vector<at::Tensor> Plan::run(const std::vector<at::Tensor>& inputs,
                                  std::vector<int64_t>* times) {
  using Clock = std::chrono::steady_clock;
  check(inputs);
  std::unique_ptr<Frame> frame = take_frame();
  const Parallel all = ops::parallel(std::numeric_limits<double>::infinity());
  frame->begin(inputs, workspace_offset_, std::min(threads_, all.threads));
  for (const auto& step : steps_) {
    if (times == nullptr) {
      step->run(*frame);
      continue;
    }
    const auto start = Clock::now();
    step->run(*frame);
    times->push_back(
        std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count());
  }
  std::vector<at::Tensor> results;
  results.reserve(outputs_.size());
  for (const View& view : outputs_) results.push_back(frame->tensor(view));
  give_back(std::move(frame));
  return results;
}

at::Tensor Plan::run_parts(const std::vector<at::Tensor>& inputs, int64_t parts) {
  check(inputs);
  const View& part = outputs_[0];
  const int64_t elements = buffers_[part.buffer].where;
  const at::Tensor whole = at::empty({parts * elements}, buffers_[part.buffer].dtype);
  const auto some = [&](int64_t begin, int64_t end) {
    // A thread of the pool does not know that its caller wants no gradients.
    const c10::InferenceMode guard;
    std::unique_ptr<Frame> frame = take_frame();
    for (int64_t i = begin; i < end; ++i) {
      std::vector<at::Tensor> own;
      for (const at::Tensor& input : inputs) {
        const int64_t images = input.size(0) / parts;
        own.push_back(input.narrow(0, i * images, images));
      }
      frame->begin(own, workspace_offset_, /*threads=*/1, whole.narrow(0, i * elements, elements));
      for (const auto& step : steps_) step->run(*frame);
    }
    give_back(std::move(frame));
  };
  const Parallel all = ops::parallel(std::numeric_limits<double>::infinity());
  all.run(all, parts, const_cast<void*>(static_cast<const void*>(&some)),
          [](void* context, int64_t begin, int64_t end, int32_t) {
            (*static_cast<decltype(some)*>(context))(begin, end);
          });
  std::vector<int64_t> sizes = part.sizes, strides = part.strides;
  strides[0] = elements / sizes[0];  // that of a single image is anything
  sizes[0] *= parts;
  return whole.as_strided(sizes, strides);
}

std::vector<std::string> Plan::kernels() const {
  std::vector<std::string> names;
  for (const auto& step : steps_) names.push_back(step->kernel());
  return names;
}

}  // namespace zoo::plan
