// The kernels of a device for the pretended one (pretend_device.h): while a PretendedKernels lives, operators
// are registered for it as libretort_cuda.so registers them for CUDA, and run the kernels' bodies on the CPU.
#pragma once
#include "kernels/dropout_body.h"
#include "kernels/experts_body.h"
#include "kernels/gated_body.h"
#include "kernels/norm_body.h"
#include "kernels/rotate_body.h"
#include "kernels/softmax_body.h"
#include "ops/device_kernels.h"
#include "ops/pretend_device.h"  // tests/ops
#include "support/run_decode.h"

namespace retort::pretend {

inline int64_t kernel_calls = 0;  // so far
inline void count_call() { ++kernel_calls, ++operations; }

inline Launch some_launch() {
  Launch launch;
  launch.blocks = 2, launch.order = 2;
  return launch;
}

template <class T> const T* host_of(const std::optional<Tensor>& x) {
  return x ? static_cast<const T*>(memory().host_of(x->const_data_ptr())) : nullptr;
}

inline Tensor decode(const Tensor& stored, const std::optional<Tensor>& book,
                     const std::optional<Tensor>& scales, const std::optional<Tensor>& zeros,
                     const std::optional<Tensor>& group_of, at::IntArrayRef numbers, at::ScalarType type) {
  count_call();
  auto job = decode_job(numbers);
  auto out = empty_on_device({job.rows, job.columns}, type);
  job.to_bf16 = type == at::kBFloat16;
  job.stored = host_of<uint8_t>(stored);
  job.out = memory().host_of(out.mutable_data_ptr());
  job.book = host_of<uint8_t>(book);
  job.scales = host_of<float>(scales);
  job.zeros = host_of<uint8_t>(zeros);
  job.group_of = host_of<int32_t>(group_of);
  run_decode(job, some_launch());
  return out;
}

inline Tensor drop_numbers(const Tensor& x, int64_t key, int64_t threshold, double scale) {
  count_call();
  auto out = empty_on_device(x.sizes(), x.scalar_type());
  DropoutJob job;
  job.in = memory().host_of(x.const_data_ptr()), job.out = memory().host_of(out.mutable_data_ptr());
  job.count = x.numel(), job.key = static_cast<uint64_t>(key);
  job.threshold = static_cast<uint32_t>(threshold), job.scale = static_cast<float>(scale);
  auto launch = some_launch();
  launch.threads = kDropoutThreads;
  run_blocks(launch, [&](EmulatedThread& threads) {
    if (x.scalar_type() == at::kBFloat16) drop<uint16_t>(threads, job);
    else drop<float>(threads, job);
  });
  return out;
}

inline Tensor softmax_rows(Tensor& logits, const std::optional<Tensor>& weights) {
  count_call();
  auto log_sums = empty_on_device({logits.size(0)}, at::kFloat);
  SoftmaxJob job;
  job.logits = static_cast<float*>(memory().host_of(logits.mutable_data_ptr()));
  job.log_sums = static_cast<float*>(memory().host_of(log_sums.mutable_data_ptr()));
  job.rows = logits.size(0), job.columns = logits.size(1), job.weights = host_of<float>(weights);
  auto launch = some_launch();
  launch.threads = kSoftmaxThreads, launch.shared_bytes = kSoftmaxShared;
  run_blocks(launch, [&](EmulatedThread& threads) { softmax_gradient(threads, job); });
  return log_sums;
}

inline void run_gated(GatedJob& job, const Tensor& gate, const Tensor& up, bool silu) {
  count_call();
  job.gate = host_of<void>(gate), job.up = host_of<void>(up), job.count = gate.numel(), job.silu = silu;
  auto launch = some_launch();
  launch.threads = kGatedThreads;
  run_blocks(launch, [&](EmulatedThread& threads) {
    if (gate.scalar_type() == at::kBFloat16) gate_numbers<uint16_t>(threads, job);
    else gate_numbers<float>(threads, job);
  });
}
inline Tensor gated_numbers(const Tensor& gate, const Tensor& up, bool silu) {
  auto out = empty_on_device(gate.sizes(), gate.scalar_type());
  GatedJob job;
  job.out = memory().host_of(out.mutable_data_ptr());
  run_gated(job, gate, up, silu);
  return out;
}
inline std::tuple<Tensor, Tensor> gated_back(const Tensor& gradient, const Tensor& gate, const Tensor& up,
                                             bool silu) {
  auto to_gate = empty_on_device(gate.sizes(), gate.scalar_type());
  auto to_up = empty_on_device(gate.sizes(), gate.scalar_type());
  GatedJob job;
  job.gradient = host_of<void>(gradient);
  job.to_gate = memory().host_of(to_gate.mutable_data_ptr());
  job.to_up = memory().host_of(to_up.mutable_data_ptr());
  run_gated(job, gate, up, silu);
  return {to_gate, to_up};
}

inline void run_norm(NormJob& job, const Tensor& x, const Tensor& weight, const Tensor& scales,
                     double offset) {
  count_call();
  job.x = host_of<void>(x), job.weight = host_of<float>(weight), job.width = x.size(-1);
  job.rows = x.numel() / job.width, job.offset = static_cast<float>(offset);
  job.scales = static_cast<float*>(memory().host_of(scales.const_data_ptr()));
  auto launch = some_launch();
  launch.threads = kNormThreads, launch.shared_bytes = kNormShared;
  run_blocks(launch, [&](EmulatedThread& threads) {
    const bool bf16 = x.scalar_type() == at::kBFloat16;
    if (job.gradient && bf16) norm_rows_back<uint16_t>(threads, job);
    else if (job.gradient) norm_rows_back<float>(threads, job);
    else if (bf16) norm_rows<uint16_t>(threads, job);
    else norm_rows<float>(threads, job);
  });
}
inline std::tuple<Tensor, Tensor, Tensor> norm_numbers(const Tensor& x, const std::optional<Tensor>& delta,
                                                       const Tensor& weight, double offset, double epsilon) {
  auto sum = empty_on_device(x.sizes(), x.scalar_type()), out = empty_on_device(x.sizes(), x.scalar_type());
  auto scales = empty_on_device({x.numel() / x.size(-1)}, at::kFloat);
  NormJob job;
  job.delta = host_of<void>(delta), job.sum = memory().host_of(sum.mutable_data_ptr());
  job.out = memory().host_of(out.mutable_data_ptr()), job.epsilon = static_cast<float>(epsilon);
  run_norm(job, x, weight, scales, offset);
  return {sum, out, scales};
}
inline Tensor norm_gradient(const Tensor& gradient, const Tensor& x, const std::optional<Tensor>& more,
                            const Tensor& weight, const Tensor& scales, double offset) {
  auto out = empty_on_device(x.sizes(), x.scalar_type());
  NormJob job;
  job.gradient = host_of<void>(gradient), job.more = host_of<void>(more);
  job.out = memory().host_of(out.mutable_data_ptr());
  run_norm(job, x, weight, scales, offset);
  return out;
}

template <class T> T* mutable_host_of(const Tensor& x) {
  return static_cast<T*>(memory().host_of(x.mutable_data_ptr()));
}

inline Tensor rotate_numbers(const Tensor& x, const Tensor& positions, const Tensor& table, int64_t first,
                             bool interleaved, bool back) {
  count_call();
  auto out = empty_on_device(x.sizes(), x.scalar_type());
  RotateJob job;
  job.x = host_of<void>(x), job.out = mutable_host_of<void>(out), job.positions = host_of<int64_t>(positions);
  job.cosine = host_of<float>(table), job.sine = job.cosine + table.size(1) * table.size(2);
  job.rows = x.size(0), job.heads = x.size(1), job.width = x.size(2), job.half = table.size(2);
  job.first = first, job.interleaved = interleaved, job.back = back;
  auto launch = some_launch();
  launch.threads = kRotateThreads;
  run_blocks(launch, [&](EmulatedThread& threads) {
    if (x.scalar_type() == at::kBFloat16) rotate_heads<uint16_t>(threads, job);
    else rotate_heads<float>(threads, job);
  });
  return out;
}

inline std::tuple<Tensor, Tensor, Tensor> sort_slots(const Tensor& expert, int64_t experts) {
  count_call();
  SortJob job;
  job.slots = expert.numel(), job.experts = experts;
  auto order = empty_on_device({job.slots}, at::kInt), places = empty_on_device({job.slots}, at::kInt);
  auto starts = empty_on_device({experts + 1}, at::kInt);
  std::vector<int32_t> before(static_cast<size_t>(experts * job.tiles()));
  job.expert = host_of<int32_t>(expert), job.before = before.data();
  job.starts = mutable_host_of<int32_t>(starts), job.order = mutable_host_of<int32_t>(order);
  job.places = mutable_host_of<int32_t>(places);
  auto launch = some_launch();
  launch.threads = kExpertThreads, launch.shared_bytes = kSortShared;
  run_blocks(launch, [&](EmulatedThread& threads) { count_slots(threads, job); });
  auto one = launch;
  one.blocks = 1, one.shared_bytes = kScanShared;
  run_blocks(one, [&](EmulatedThread& threads) { scan_counts(threads, job); });
  run_blocks(launch, [&](EmulatedThread& threads) { place_slots(threads, job); });
  return {order, places, starts};
}

inline void run_rows(const RowsJob& job, at::ScalarType type) {
  count_call();
  auto launch = some_launch();
  launch.threads = kExpertThreads;
  run_blocks(launch, [&](EmulatedThread& threads) {
    if (job.x && type == at::kBFloat16) rows_to_experts<uint16_t>(threads, job);
    else if (job.x) rows_to_experts<float>(threads, job);
    else if (type == at::kBFloat16) sum_of_experts<uint16_t>(threads, job);
    else sum_of_experts<float>(threads, job);
  });
}
inline Tensor to_experts(const Tensor& x, const Tensor& order) {
  auto out = empty_on_device({order.numel(), x.size(1)}, x.scalar_type());
  RowsJob job;
  job.tokens = x.size(0), job.width = x.size(1), job.each = order.numel() / job.tokens;
  job.x = host_of<void>(x), job.order = host_of<int32_t>(order), job.out = mutable_host_of<void>(out);
  run_rows(job, x.scalar_type());
  return out;
}
inline Tensor from_experts(at::TensorList parts, at::IntArrayRef of, const Tensor& expert,
                           const Tensor& places, const Tensor& starts) {
  RowsJob job;
  job.tokens = expert.size(0), job.each = expert.size(1), job.width = parts[0].size(1);
  auto out = empty_on_device({job.tokens, job.width}, parts[0].scalar_type());
  std::vector<const void*> addresses(static_cast<size_t>(starts.numel() - 1));
  for (size_t i = 0; i < parts.size(); ++i) addresses[static_cast<size_t>(of[i])] = host_of<void>(parts[i]);
  job.parts = addresses.data(), job.expert = host_of<int32_t>(expert);
  job.places = host_of<int32_t>(places), job.starts = host_of<int32_t>(starts);
  job.out = mutable_host_of<void>(out);
  run_rows(job, parts[0].scalar_type());
  return out;
}

class PretendedKernels {
 public:
  PretendedKernels()
      : schemas_(torch::Library::DEF, "retort", std::nullopt, __FILE__, __LINE__),
        kernels_(torch::Library::IMPL, "retort", c10::DispatchKey::PrivateUse1, __FILE__, __LINE__) {
    schemas_.def(kDecodeSchema);
    schemas_.def(kDropSchema);
    schemas_.def(kSoftmaxSchema);
    schemas_.def(kNormSchema);
    schemas_.def(kNormBackSchema);
    schemas_.def(kGatedSchema);
    schemas_.def(kGatedBackSchema);
    schemas_.def(kRotateSchema);
    schemas_.def(kSortSchema);
    schemas_.def(kToExpertsSchema);
    schemas_.def(kFromExpertsSchema);
    kernels_.impl("decode", &decode);
    kernels_.impl("drop", &drop_numbers);
    kernels_.impl("softmax_gradient", &softmax_rows);
    kernels_.impl("norm", &norm_numbers);
    kernels_.impl("norm_back", &norm_gradient);
    kernels_.impl("gated", &gated_numbers);
    kernels_.impl("gated_back", &gated_back);
    kernels_.impl("rotate", &rotate_numbers);
    kernels_.impl("sort_by_expert", &sort_slots);
    kernels_.impl("rows_to_experts", &to_experts);
    kernels_.impl("sum_of_experts", &from_experts);
  }

 private:
  torch::Library schemas_, kernels_;
};

}  // namespace retort::pretend
