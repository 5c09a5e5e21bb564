// Registers the kernels with LibTorch: all of libretort_cuda.so that is not a kernel. The program loads it
// for `device: cuda` and knows nothing of it but the operators' schemas (device_kernels.h).
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/library.h>

#include "kernels/launch.h"
#include "ops/device_kernels.h"

namespace retort {
namespace {

using at::Tensor;

// LibTorch's current stream there, by the interface that needs no header or library of CUDA's.
void* stream_of(const Tensor& x) {
  return c10::impl::VirtualGuardImpl(x.device().type()).getStream(x.device()).native_handle();
}

void require(const char* refused, const char* what) {
  TORCH_CHECK(!refused, "CUDA: ", what, " failed: ", refused);
}

Tensor decode(const Tensor& stored, const std::optional<Tensor>& book, const std::optional<Tensor>& scales,
              const std::optional<Tensor>& zeros, const std::optional<Tensor>& group_of,
              at::IntArrayRef numbers, at::ScalarType type) {
  const c10::DeviceGuard here(stored.device());
  auto job = decode_job(numbers);
  auto out = at::empty({job.rows, job.columns}, stored.options().dtype(type));
  job.to_bf16 = type == at::kBFloat16;
  job.stored = stored.const_data_ptr<uint8_t>();
  job.out = out.mutable_data_ptr();
  if (book) job.book = book->const_data_ptr();
  if (scales) job.scales = scales->const_data_ptr<float>();
  if (zeros) job.zeros = zeros->const_data_ptr<uint8_t>();
  if (group_of) job.group_of = group_of->const_data_ptr<int32_t>();
  const auto launch = job.to_bf16 ? launch_decode_bf16 : launch_decode_f32;
  require(launch(job, stream_of(stored)), "decoding a matrix");
  return out;
}

Tensor dropped(const Tensor& x, int64_t key, int64_t threshold, double scale) {
  const c10::DeviceGuard here(x.device());
  auto out = at::empty(x.sizes(), x.options());
  DropoutJob job;
  job.in = x.const_data_ptr(), job.out = out.mutable_data_ptr(), job.count = x.numel();
  job.key = static_cast<uint64_t>(key), job.threshold = static_cast<uint32_t>(threshold);
  job.scale = static_cast<float>(scale);
  require(launch_drop(job, x.scalar_type() == at::kBFloat16, stream_of(x)), "dropout");
  return out;
}

GatedJob gated_job(const Tensor& gate, const Tensor& up, bool silu) {
  GatedJob job;
  job.gate = gate.const_data_ptr(), job.up = up.const_data_ptr(), job.count = gate.numel(), job.silu = silu;
  return job;
}

Tensor gated(const Tensor& gate, const Tensor& up, bool silu) {
  const c10::DeviceGuard here(gate.device());
  auto out = at::empty(gate.sizes(), gate.options());
  auto job = gated_job(gate, up, silu);
  job.out = out.mutable_data_ptr();
  require(launch_gated(job, gate.scalar_type() == at::kBFloat16, stream_of(gate)), "the gated activation");
  return out;
}

std::tuple<Tensor, Tensor> gated_back(const Tensor& gradient, const Tensor& gate, const Tensor& up,
                                      bool silu) {
  const c10::DeviceGuard here(gate.device());
  auto to_gate = at::empty(gate.sizes(), gate.options()), to_up = at::empty(up.sizes(), up.options());
  auto job = gated_job(gate, up, silu);
  job.gradient = gradient.const_data_ptr();
  job.to_gate = to_gate.mutable_data_ptr(), job.to_up = to_up.mutable_data_ptr();
  require(launch_gated(job, gate.scalar_type() == at::kBFloat16, stream_of(gate)), "the gated activation");
  return {to_gate, to_up};
}

NormJob norm_job(const Tensor& x, const Tensor& weight, double offset) {
  NormJob job;
  job.x = x.const_data_ptr(), job.weight = weight.const_data_ptr<float>();
  job.width = x.size(-1), job.rows = x.numel() / job.width, job.offset = static_cast<float>(offset);
  return job;
}

std::tuple<Tensor, Tensor, Tensor> norm_of_rows(const Tensor& x, const std::optional<Tensor>& delta,
                                                const Tensor& weight, double offset, double epsilon) {
  const c10::DeviceGuard here(x.device());
  auto job = norm_job(x, weight, offset);
  auto sum = at::empty(delta ? x.sizes() : at::IntArrayRef{0}, x.options());
  auto out = at::empty(x.sizes(), x.options()), scales = at::empty({job.rows}, weight.options());
  job.epsilon = static_cast<float>(epsilon);
  if (delta) job.delta = delta->const_data_ptr(), job.sum = sum.mutable_data_ptr();
  job.out = out.mutable_data_ptr(), job.scales = scales.mutable_data_ptr<float>();
  require(launch_norm(job, x.scalar_type() == at::kBFloat16, stream_of(x)), "the norm");
  return {sum, out, scales};
}

Tensor gradient_of_norm(const Tensor& gradient, const Tensor& x, const std::optional<Tensor>& more,
                        const Tensor& weight, const Tensor& scales, double offset) {
  const c10::DeviceGuard here(x.device());
  auto out = at::empty(x.sizes(), x.options());
  auto job = norm_job(x, weight, offset);
  job.gradient = gradient.const_data_ptr(), job.out = out.mutable_data_ptr();
  if (more) job.more = more->const_data_ptr();
  job.scales = const_cast<float*>(scales.const_data_ptr<float>());  // read alone
  require(launch_norm(job, x.scalar_type() == at::kBFloat16, stream_of(x)), "the norm's way back");
  return out;
}

Tensor rotated(const Tensor& x, const Tensor& positions, const Tensor& table, int64_t first, bool interleaved,
               bool back) {
  const c10::DeviceGuard here(x.device());
  auto out = at::empty(x.sizes(), x.options());
  RotateJob job;
  job.x = x.const_data_ptr(), job.out = out.mutable_data_ptr();
  job.positions = positions.const_data_ptr<int64_t>();
  job.cosine = table.const_data_ptr<float>(), job.sine = job.cosine + table.size(1) * table.size(2);
  job.rows = x.size(0), job.heads = x.size(1), job.width = x.size(2), job.half = table.size(2);
  job.first = first, job.interleaved = interleaved, job.back = back;
  require(launch_rotate(job, x.scalar_type() == at::kBFloat16, stream_of(x)), "the rotation");
  return out;
}

std::tuple<Tensor, Tensor, Tensor> sorted_by_expert(const Tensor& expert, int64_t experts) {
  const c10::DeviceGuard here(expert.device());
  SortJob job;
  job.slots = expert.numel(), job.experts = experts;
  auto order = at::empty({job.slots}, expert.options()), places = at::empty({job.slots}, expert.options());
  auto starts = at::empty({experts + 1}, expert.options());
  auto before = at::empty({experts, job.tiles()}, expert.options());
  job.expert = expert.const_data_ptr<int32_t>(), job.before = before.mutable_data_ptr<int32_t>();
  job.starts = starts.mutable_data_ptr<int32_t>(), job.order = order.mutable_data_ptr<int32_t>();
  job.places = places.mutable_data_ptr<int32_t>();
  require(launch_sort(job, stream_of(expert)), "the sort by expert");
  return {order, places, starts};
}

Tensor rows_of_experts(const Tensor& x, const Tensor& order) {
  const c10::DeviceGuard here(x.device());
  RowsJob job;
  job.tokens = x.size(0), job.width = x.size(1), job.each = order.numel() / job.tokens;
  auto out = at::empty({order.numel(), job.width}, x.options());
  job.x = x.const_data_ptr(), job.order = order.const_data_ptr<int32_t>(), job.out = out.mutable_data_ptr();
  require(launch_rows(job, x.scalar_type() == at::kBFloat16, stream_of(x)), "the move of rows to experts");
  return out;
}

Tensor sum_of_parts(at::TensorList parts, at::IntArrayRef of, const Tensor& expert, const Tensor& places,
                    const Tensor& starts) {
  const c10::DeviceGuard here(expert.device());
  const auto& like = parts[0];
  RowsJob job;
  job.tokens = expert.size(0), job.each = expert.size(1), job.width = like.size(1);
  auto addresses = at::zeros({starts.numel() - 1}, at::TensorOptions(at::kLong));
  for (size_t i = 0; i < parts.size(); ++i)
    addresses.mutable_data_ptr<int64_t>()[of[i]] = reinterpret_cast<int64_t>(parts[i].const_data_ptr());
  addresses = addresses.to(expert.device());
  auto out = at::empty({job.tokens, job.width}, like.options());
  job.expert = expert.const_data_ptr<int32_t>(), job.places = places.const_data_ptr<int32_t>();
  job.starts = starts.const_data_ptr<int32_t>(), job.out = out.mutable_data_ptr();
  job.parts = static_cast<const void* const*>(addresses.const_data_ptr());
  require(launch_rows(job, like.scalar_type() == at::kBFloat16, stream_of(like)), "the sum over experts");
  return out;
}

Tensor softmax_of_rows(Tensor& logits, const std::optional<Tensor>& weights) {
  const c10::DeviceGuard here(logits.device());
  auto log_sums = at::empty({logits.size(0)}, logits.options());
  SoftmaxJob job;
  job.logits = logits.mutable_data_ptr<float>(), job.log_sums = log_sums.mutable_data_ptr<float>();
  job.rows = logits.size(0), job.columns = logits.size(1);
  if (weights) job.weights = weights->const_data_ptr<float>();
  require(launch_softmax_gradient(job, stream_of(logits)), "the softmax of the logits");
  return log_sums;
}

}  // namespace
}  // namespace retort

TORCH_LIBRARY(retort, library) {
  library.def(retort::kDecodeSchema);
  library.def(retort::kDropSchema);
  library.def(retort::kSoftmaxSchema);
  library.def(retort::kNormSchema);
  library.def(retort::kNormBackSchema);
  library.def(retort::kGatedSchema);
  library.def(retort::kGatedBackSchema);
  library.def(retort::kRotateSchema);
  library.def(retort::kSortSchema);
  library.def(retort::kToExpertsSchema);
  library.def(retort::kFromExpertsSchema);
}
TORCH_LIBRARY_IMPL(retort, CUDA, library) {
  library.impl("decode", &retort::decode);
  library.impl("drop", &retort::dropped);
  library.impl("softmax_gradient", &retort::softmax_of_rows);
  library.impl("norm", &retort::norm_of_rows);
  library.impl("norm_back", &retort::gradient_of_norm);
  library.impl("gated", &retort::gated);
  library.impl("gated_back", &retort::gated_back);
  library.impl("rotate", &retort::rotated);
  library.impl("sort_by_expert", &retort::sorted_by_expert);
  library.impl("rows_to_experts", &retort::rows_of_experts);
  library.impl("sum_of_experts", &retort::sum_of_parts);
}
