// Kernels of our own on a device (kernels/), for what LibTorch's calls would do in many passes over memory. A
// library of them registers operators with LibTorch's dispatcher when device.cpp loads it (cuda_kernels.cpp);
// where there is none for a device, the composed form does without.
#pragma once
#include <ATen/ATen.h>

#include <optional>
#include <tuple>
#include <vector>

#include "kernels/decode_job.h"
#include "ops/weight.h"

namespace retort {

// The operators in LibTorch's words, as whoever registers them defines them in the namespace "retort".
// `numbers` are those of the job; a book, scales, zeros and groups lie on the device of what is stored.
inline constexpr auto kDecodeSchema =
    "decode(Tensor stored, Tensor? book, Tensor? scales, Tensor? zeros, Tensor? group_of, int[] numbers, "
    "ScalarType type) -> Tensor";
using DecodeOperator = at::Tensor(const at::Tensor& stored, const std::optional<at::Tensor>& book,
                                  const std::optional<at::Tensor>& scales,
                                  const std::optional<at::Tensor>& zeros,
                                  const std::optional<at::Tensor>& group_of, at::IntArrayRef numbers,
                                  at::ScalarType type);
// `key` is Draws::key(), `threshold` of 65,536.
inline constexpr auto kDropSchema = "drop(Tensor x, int key, int threshold, float scale) -> Tensor";
using DropOperator = at::Tensor(const at::Tensor& x, int64_t key, int64_t threshold, double scale);
// logits [N,V] fp32 become weights[n] softmax(logits[n]), where there are weights [N]; gives log sum exp [N].
inline constexpr auto kSoftmaxSchema = "softmax_gradient(Tensor(a!) logits, Tensor? weights) -> Tensor";
using SoftmaxOperator = at::Tensor(at::Tensor& logits, const std::optional<at::Tensor>& weights);
// The gated activation (ops/gated.h) and its way back, to the gradients of gate and up.
inline constexpr auto kGatedSchema = "gated(Tensor gate, Tensor up, bool silu) -> Tensor";
using GatedOperator = at::Tensor(const at::Tensor& gate, const at::Tensor& up, bool silu);
inline constexpr auto kGatedBackSchema =
    "gated_back(Tensor gradient, Tensor gate, Tensor up, bool silu) -> (Tensor, Tensor)";
using GatedBackOperator = std::tuple<at::Tensor, at::Tensor>(const at::Tensor& gradient,
                                                             const at::Tensor& gate, const at::Tensor& up,
                                                             bool silu);
// RMSNorm of x, or of x + delta (ops/norm.h): the sum (empty without a delta), the normed, and 1 / rms of
// each row, fp32. Its way back gives the gradient of what was normed, to which `more` is added.
inline constexpr auto kNormSchema =
    "norm(Tensor x, Tensor? delta, Tensor weight, float offset, float epsilon) -> (Tensor, Tensor, Tensor)";
using NormOperator = std::tuple<at::Tensor, at::Tensor, at::Tensor>(const at::Tensor& x,
                                                                    const std::optional<at::Tensor>& delta,
                                                                    const at::Tensor& weight, double offset,
                                                                    double epsilon);
inline constexpr auto kNormBackSchema =
    "norm_back(Tensor gradient, Tensor x, Tensor? more, Tensor weight, Tensor scales, float offset) -> "
    "Tensor";
using NormBackOperator = at::Tensor(const at::Tensor& gradient, const at::Tensor& x,
                                    const std::optional<at::Tensor>& more, const at::Tensor& weight,
                                    const at::Tensor& scales, double offset);
// Rotation (ops/rotate.h): positions int64 [N], table fp32 [2, positions, half], cosines before sines.
inline constexpr auto kRotateSchema =
    "rotate(Tensor x, Tensor positions, Tensor table, int first, bool interleaved, bool back) -> Tensor";
using RotateOperator = at::Tensor(const at::Tensor& x, const at::Tensor& positions, const at::Tensor& table,
                                  int64_t first, bool interleaved, bool back);
// Slots by expert (SortedSlots of ops/route.h): of expert int32 [N,K] the order, the places and the starts.
inline constexpr auto kSortSchema = "sort_by_expert(Tensor expert, int experts) -> (Tensor, Tensor, Tensor)";
using SortOperator = std::tuple<at::Tensor, at::Tensor, at::Tensor>(const at::Tensor& expert,
                                                                    int64_t experts);
// Rows of x in that order; and the sum of each token's rows, where parts[i] are those of expert of[i], and
// those of an expert that is not named are zero.
inline constexpr auto kToExpertsSchema = "rows_to_experts(Tensor x, Tensor order) -> Tensor";
using ToExpertsOperator = at::Tensor(const at::Tensor& x, const at::Tensor& order);
inline constexpr auto kFromExpertsSchema =
    "sum_of_experts(Tensor[] parts, int[] of, Tensor expert, Tensor places, Tensor starts) -> Tensor";
using FromExpertsOperator = at::Tensor(at::TensorList parts, at::IntArrayRef of, const at::Tensor& expert,
                                       const at::Tensor& places, const at::Tensor& starts);
// Shorter rows are left to LibTorch: a block of threads has a row.
inline constexpr int64_t kShortestNorm = 1024;

// Rows [first, first + count) of a matrix in x's type and on its device, decoded there from the bytes that
// are stored; nothing where there is no kernel for that.
std::optional<at::Tensor> decoded_on(const at::Tensor& x, const Weight& weight, int64_t first, int64_t count);
// x with numbers dropped by the draws of `key`; nothing where there is no kernel for that.
std::optional<at::Tensor> dropped_on(const at::Tensor& x, double rate, uint64_t key);
// log sum exp of each row of logits, which become the softmax times `weights` where these are defined;
// nothing where there is no kernel for that.
std::optional<at::Tensor> softmax_gradient_on(at::Tensor& logits, const at::Tensor& weights);
std::optional<at::Tensor> gated_on(const at::Tensor& gate, const at::Tensor& up, bool silu);
std::optional<std::tuple<at::Tensor, at::Tensor>> gated_back_on(const at::Tensor& gradient,
                                                                const at::Tensor& gate, const at::Tensor& up,
                                                                bool silu);
// By the kernel, with a graph to x and delta (undefined: none); nothing where there is no kernel for that, or
// where the weight is trained, whose gradient is a sum over rows.
struct NormedSum;
struct Norm;
std::optional<NormedSum> normed_on(const at::Tensor& x, const at::Tensor& delta, const Norm& norm);
// By the kernel, with a graph to x; nothing where there is no kernel for that.
struct RotaryTable;
struct RotatedPart;
std::optional<at::Tensor> rotated_on(const at::Tensor& x, const at::Tensor& positions,
                                     const RotaryTable& table, const RotatedPart& part);
// The lists of a plan whose choices are `chosen` [N,K]; and by these what composed_scatter_rows() and
// composed_gather_sum() compute (composed_forms.h), to the bits of the CPU. Nothing where there are no
// kernels for that.
struct RoutePlan;
struct SortedSlots;
std::optional<SortedSlots> sorted_on(const at::Tensor& chosen, int64_t experts);
std::optional<std::vector<at::Tensor>> rows_to_experts_on(const at::Tensor& x, const RoutePlan& plan);
std::optional<at::Tensor> sum_of_experts_on(const std::vector<at::Tensor>& parts, const RoutePlan& plan,
                                            int64_t width);
bool has_decoder(at::Device device);

// The numbers of a job, and a job of such numbers whose addresses are still to be set.
inline std::vector<int64_t> numbers_of(const DecodeJob& job) {
  return {static_cast<int64_t>(job.type),
          job.rows,
          job.columns,
          job.first_row,
          job.scale_columns,
          job.block_rows,
          job.block_columns,
          job.high_first};
}
inline DecodeJob decode_job(at::IntArrayRef numbers) {
  TORCH_CHECK(numbers.size() == 8, "retort::decode: the program and its library of kernels differ");
  DecodeJob job;
  job.type = static_cast<WeightType>(numbers[0]);
  job.rows = numbers[1], job.columns = numbers[2], job.first_row = numbers[3], job.scale_columns = numbers[4];
  job.block_rows = numbers[5], job.block_columns = numbers[6], job.high_first = numbers[7] != 0;
  return job;
}

}  // namespace retort
