// Starts the kernels on a CUDA device (decode_bf16.cu and its like), for whoever is compiled by g++. Each
// returns null, or CUDA's words when the launch is refused, and is asynchronous on `stream` (a cudaStream_t).
#pragma once
#include "kernels/adamw_body.h"
#include "kernels/decode_job.h"
#include "kernels/dropout_body.h"
#include "kernels/experts_body.h"
#include "kernels/gated_body.h"
#include "kernels/norm_body.h"
#include "kernels/rotate_body.h"
#include "kernels/softmax_body.h"

namespace retort {

const char* launch_decode_bf16(const DecodeJob& job, void* stream);
const char* launch_decode_f32(const DecodeJob& job, void* stream);
const char* launch_softmax_gradient(const SoftmaxJob& job, void* stream);
const char* launch_gated(const GatedJob& job, bool bf16, void* stream);
const char* launch_norm(const NormJob& job, bool bf16, void* stream);
const char* launch_rotate(const RotateJob& job, bool bf16, void* stream);
const char* launch_drop(const DropoutJob& job, bool bf16, void* stream);
const char* launch_sort(const SortJob& job, void* stream);
// To the experts where job.x is set, else back.
const char* launch_rows(const RowsJob& job, bool bf16, void* stream);
// The lists of the job are in the device's memory too.
const char* launch_adamw(const AdamwJob& job, void* stream);

}  // namespace retort
