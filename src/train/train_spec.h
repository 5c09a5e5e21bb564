// How a run trains. Split by owner: what a step holds, the optimizer, its schedule, evaluation, checkpoints.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "spec/fields.h"

namespace retort {

struct BatchSpec {
  int64_t samples = 16;
  int64_t tokens = 0;
  int64_t pass_tokens = 2048;
  int64_t together = 0;
  int64_t parts = 0;
  // Into how many forests a step is cut at least.
  int64_t parts_or(int64_t threads) const { return parts > 0 ? parts : threads; }
  template <class Visitor> void fields(Visitor& field) {
    field("samples", samples, between(1, 1 << 20),
          "samples of one optimizer step; the last step of an epoch takes what is left");
    field("tokens", tokens, at_least(0),
          "tokens of one optimizer step at most (a step has at least one sample); 0 = count samples only");
    field("pass_tokens", pass_tokens, between(16, 1 << 20),
          "tokens of one pass (micro-batch) at most, what several samples begin with alike counted once; "
          "memory grows with it, the result does not change");
    field("together", together, at_least(0),
          "samples whose first this many tokens are equal (questions about one document, answers to one "
          "prompt) follow each other, so that a step computes what they share once; "
          "0 = every sample is shuffled by itself");
    field("parts", parts, between(0, 4096),
          "passes that a step is cut into at least, where it has as many samples, each computed by one "
          "thread: no byte of the weights then depends on train.threads (but through the answers of "
          "distill.on_policy and what train.memory chooses), and a checkpoint goes on with any; fewer than "
          "the threads of all ranks leave some of them idle; 0 = as many as train.threads");
  }
};

struct OptimizerSpec {
  std::string kind = "adamw";  // adamw, adamw8bit, sgd, lion
  double learning_rate = 2e-4;
  std::vector<double> betas = {0.9, 0.999};
  double epsilon = 1e-8;
  double weight_decay = 0;
  double momentum = 0;
  double clip_norm = 1;
  double lora_plus_ratio = 1;
  template <class Visitor> void fields(Visitor& field) {
    field("kind", kind, one_of({"adamw", "adamw8bit", "sgd", "lion"}),
          "adamw (arXiv:1711.05101), adamw8bit = its states in 8 bits (2110.02861), sgd, lion (2302.06675)");
    field("learning_rate", learning_rate, above(0), "peak rate");
    field("betas", betas, between(0, 0.999999),
          "decay of the first and second moment (adamw), or interpolation and decay (lion)");
    field("epsilon", epsilon, above(0), "added to the root of the second moment (adamw)");
    field("weight_decay", weight_decay, between(0, 10),
          "decoupled decay of matrices; vectors (norms, biases, DoRA magnitudes) are not decayed");
    field("momentum", momentum, between(0, 0.9999), "sgd only");
    field("clip_norm", clip_norm, at_least(0), "gradients are scaled down to this global L2 norm; 0 = never");
    field("lora_plus_ratio", lora_plus_ratio, between(1, 1024),
          "learning rate of B over that of A (LoRA+, arXiv:2402.12354); 1 = equal");
  }
};

struct ScheduleSpec {
  std::string kind = "cosine";  // constant, linear, cosine, wsd
  int64_t warmup_steps = 0;
  double warmup_share = 0;
  double decay_share = 0.1;
  double final_share = 0;
  template <class Visitor> void fields(Visitor& field) {
    field("kind", kind, one_of({"constant", "linear", "cosine", "wsd"}),
          "of the learning rate, by optimizer step; wsd = warm-up, stable, decay (arXiv:2404.06395)");
    field("warmup_steps", warmup_steps, at_least(0),
          "step s of these has (s + 1) / warmup_steps of the rate");
    field(
        "warmup_share", warmup_share, between(0, 1),
        "instead of warmup_steps: the share of all steps that warms up, rounded up to a whole step; 0.03 or "
        "3%");
    field("decay_share", decay_share, between(0, 1), "wsd: the share of all steps that decays, linearly");
    field("final_share", final_share, between(0, 1),
          "share of the rate that linear, cosine and wsd decay towards");
  }
};

struct EvaluateSpec {
  int64_t every = 0;
  int64_t per_epoch = 0;
  int64_t patience = 0;
  bool keep_best = false;
  template <class Visitor> void fields(Visitor& field) {
    field("every", every, at_least(0),
          "held-out loss each so many steps and at the end; 0 = at the end only");
    field("per_epoch", per_epoch, at_least(0),
          "instead of `every`: held-out loss so many times in an epoch, the last time at its end (each epoch "
          "is taken to be as long as the first); 0 = as `every` says");
    field("patience", patience, at_least(0),
          "stop after so many evaluations without a new lowest loss; 0 = never");
    field("keep_best", keep_best, any(),
          "end with the weights of the lowest held-out loss instead of the last");
  }
};

struct CheckpointSpec {
  int64_t every = 100;
  int64_t per_epoch = 0;
  int64_t keep_last = 2;
  bool resume_inexact = false;
  template <class Visitor> void fields(Visitor& field) {
    field("every", every, at_least(0),
          "steps from one checkpoint to the next; 0 = at the end and when stopped only");
    field("per_epoch", per_epoch, at_least(0),
          "instead of `every`: so many checkpoints in an epoch, the last at its end (each epoch is taken to "
          "be as long as the first); 0 = as `every` says");
    field("keep_last", keep_last, between(1, 1000),
          "checkpoints kept; the best and the last one with finite weights are kept besides");
    field("resume_inexact", resume_inexact, any(),
          "continue although threads, CPU, build, data or recipe differ; the result is not bit-equal and the "
          "state says so");
  }
};

struct TrainSpec {
  int64_t steps = 0;
  double epochs = 1;
  int64_t seed = 0;
  int64_t threads = 0;
  bool recompute = false;
  std::string memory;
  double neftune_alpha = 0;
  double mtp_weight = 0.1;
  int64_t bad_steps = 5;
  BatchSpec batch;
  OptimizerSpec optimizer;
  ScheduleSpec schedule;
  EvaluateSpec evaluate;
  CheckpointSpec checkpoint;
  // Without what changes no weight: how often they are saved, and threads where batch.parts cuts the steps.
  TrainSpec arithmetic() const {
    auto spec = *this;
    spec.checkpoint = {};
    if (batch.parts > 0) spec.threads = 0;
    return spec;
  }
  template <class Visitor> void fields(Visitor& field) {
    field("steps", steps, at_least(0), "optimizer steps; 0 = as many as `epochs` needs");
    field(
        "epochs", epochs, between(0.001, 100000),
        "passes over the samples; 2.5 ends within the third, at a whole step; ignored when `steps` is given");
    field("seed", seed, at_least(0),
          "of shuffling, adapter start, dropout and noise; every draw is keyed by it");
    field("threads", threads, between(0, 1024), "micro-batches computed at the same time; 0 = one a core");
    field("recompute", recompute, any(),
          "keep layer boundaries only and compute each layer again in backward: less memory, a third more "
          "time");
    field("memory", memory, any(),
          "a budget for the whole process, e.g. 700MiB: recompute, batch.pass_tokens and threads are then "
          "chosen by the predicted peak, the fastest that fits; what is written for them is the most they "
          "may be. Empty: as written");
    field("neftune_alpha", neftune_alpha, between(0, 100),
          "noise on embeddings while training (arXiv:2310.05914); 0 = off");
    field("mtp_weight", mtp_weight, between(0, 10),
          "with model.mtp: true, the cross-entropy of the token after the next is multiplied with this and "
          "added to the loss of a step; held-out losses are of the next token alone (arXiv:2412.19437, "
          "section 2.2); 0 = it is not computed");
    field("bad_steps", bad_steps, between(1, 1000),
          "give up after so many steps in a row whose loss or gradient is not finite; each is skipped");
    field.section("batch", batch, "what one optimizer step holds");
    field.section("optimizer", optimizer, "how gradients become weights");
    field.section("schedule", schedule, "the learning rate over the steps");
    field.section("evaluate", evaluate, "held-out loss during training, early stopping");
    field.section("checkpoint", checkpoint, "saving and continuing");
  }
};

}  // namespace retort
