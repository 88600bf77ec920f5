// All kernels of one instruction set; the file that includes this has included its vec_*.h.
#pragma once

#include "../table.h"
#include "activation_grad.inc.h"
#include "batch_norm.inc.h"
#include "conv2d_depthwise.inc.h"
#include "conv2d_direct.inc.h"
#include "conv2d_gemm.inc.h"
#include "conv2d_scaled.inc.h"
#include "conv2d_weight_grad.inc.h"
#include "conv2d_winograd.inc.h"
#include "depthwise_weight_grad.inc.h"
#include "layer_norm.inc.h"
#include "max_pool2.inc.h"
#include "peak.inc.h"
#include "pool2d.inc.h"
#include "scale_shift.inc.h"

namespace zoo {
namespace {

template <typename T>
constexpr Kernels<T> kernels(const char* gemm, const char* depthwise, const char* direct,
                             const char* weight_grad, const char* depthwise_weight_grad) {
  return {{gemm, gemm_workspace_bytes<T>, gemm_run<T>},
          {depthwise, depthwise_workspace_bytes<T>, depthwise_run<T>},
          {direct, direct_workspace_bytes<T>, direct_run<T>},
          {},
          {},
          scale_panels<T>,
          {max_pool2d<T>, avg_pool2d<T>},
          {scale_shift<T>},
          {layer_norm<T>},
          {kPeakFlops<T>, peak_fma<T>, peak_read<T>},
          {weight_grad, weight_grad_sums_bytes<T>, weight_grad_workspace_bytes<T>,
           weight_grad_add<T>, weight_grad_finish<T>},
          {depthwise_weight_grad, depthwise_weight_grad_sums_bytes<T>,
           depthwise_weight_grad_workspace_bytes<T>, depthwise_weight_grad_add<T>,
           depthwise_weight_grad_finish<T>},
          {max_pool2<T>, max_pool2_backward<T>, activation_backward<T>, moments<T>, normalize<T>,
           normalize_sums<T>, normalize_backward<T>, add_parts<T>}};
}

template <typename T>
constexpr Kernels<T> kernels(const char* gemm, const char* depthwise, const char* direct,
                             const char* weight_grad, const char* depthwise_weight_grad,
                             const char* winograd4, const char* winograd2) {
  Kernels<T> all = kernels<T>(gemm, depthwise, direct, weight_grad, depthwise_weight_grad);
  all.winograd4 = {winograd4, winograd_workspace_bytes<T, Winograd4>, winograd_run<T, Winograd4>};
  all.winograd2 = {winograd2, winograd_workspace_bytes<T, Winograd2>, winograd_run<T, Winograd2>};
  return all;
}

}  // namespace
}  // namespace zoo
