// What the trainer of transformers gives to Axolotl, LLaMA-Factory and TRL alike: steps, batches, optimizer,
// schedule, evaluation, checkpoints.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/device_name.h"
#include "base/error.h"
#include "recipe/translate_draft.h"
#include "spec/spec_visitor.h"

namespace retort {

namespace {

constexpr int64_t kMostSamples = 1 << 20;

// AdamW in all its makes; "" where none of ours is it.
std::string our_optimizer(const std::string& name) {
  for (const char* one : {"adamw", "adamw_hf", "adamw_torch", "adamw_torch_fused", "adamw_torch_xla",
                          "adamw_torch_npu_fused", "adamw_apex_fused", "adamw_anyprecision",
                          "paged_adamw_32bit", "paged_adamw", "optimi_adamw", "flash_adamw"})
    if (name == one) return "adamw";
  for (const char* one :
       {"adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit", "adamw_torch_8bit", "ao_adamw_8bit"})
    if (name == one) return "adamw8bit";
  if (name == "sgd" || name == "flash_sgd") return "sgd";
  for (const char* one :
       {"lion", "lion_32bit", "lion_8bit", "paged_lion_32bit", "paged_lion_8bit", "flash_lion"})
    if (name == one) return "lion";
  return "";
}

std::string our_schedule(const std::string& name) {
  if (name == "cosine" || name == "cosine_with_min_lr") return "cosine";
  if (name == "linear") return "linear";
  if (name == "constant" || name == "constant_with_warmup") return "constant";
  if (name == "warmup_stable_decay") return "wsd";
  return "";
}

// Words that say when a checkpoint is saved; of another one nothing is known.
void leave_unknown_saves(Draft& draft) {
  const auto saved = draft.text("save_strategy");
  for (const char* known : {"", "no", "false", "steps", "epoch", "best"})
    if (saved == known) return;
  draft.leave("save_strategy", "train.checkpoint.every counts steps");
}

void translate_device(Draft& draft) {
  for (const char* key : {"use_cpu", "no_cuda"})
    if (draft.tool != Tool::axolotl && draft.truth(key))
      draft.out.set("device", "cpu", fmt::format("{}: true", key));
  for (const char* key : {"device_map", "device"}) {
    if (!find_other_key(draft.tool, key)) continue;
    const auto* value = draft.take(key);
    const bool scalar = value && value->kind == YamlNode::Kind::scalar;
    if (!value || (scalar && value->text.empty())) continue;
    if (scalar && names_device(value->text)) draft.out.set("device", yaml_word(value->text), key);
    else draft.leave(key, *value, "device is cpu, cuda, cuda:N or auto: one device computes a model");
  }
}

void translate_steps(Draft& draft, const TrainerTerms& terms) {
  const auto steps = draft.whole("max_steps");
  const auto epochs = draft.number(terms.epochs);
  if (steps && *steps > 0) {
    draft.out.set("train.steps", fmt::format("{}", *steps), "max_steps");
    if (epochs) draft.leave(terms.epochs, "max_steps goes before it, there as here");
    return;
  }
  const auto passes = epochs.value_or(terms.usual_epochs);
  const auto least = std::max(0.001, passes);
  draft.out.set("train.epochs", yaml_number(least),
                epochs ? terms.epochs : fmt::format("the default of {}", name_of(draft.tool)));
  if (least != passes)
    draft.look("train.epochs", fmt::format("{} there, and at least 0.001 here", yaml_number(passes)));
}

void translate_batch(Draft& draft, const TrainerTerms& terms, int64_t row_tokens) {
  const auto said = draft.whole(terms.batch), times = draft.whole("gradient_accumulation_steps");
  const auto in_range = [](int64_t count) { return std::clamp<int64_t>(count, 1, kMostSamples); };
  const auto device = in_range(said.value_or(static_cast<int64_t>(terms.usual_batch)));
  auto samples = device * in_range(times.value_or(1));
  auto remark = fmt::format("{} {} x gradient_accumulation_steps {}, on one device", terms.batch, device,
                            times.value_or(1));
  if (draft.tool == Tool::axolotl) {  // of all devices, and instead of accumulation
    const auto all = draft.whole("batch_size");
    if (all && *all > 0 && !times) samples = *all, remark = "batch_size";
    else if (all) draft.leave("batch_size", "gradient_accumulation_steps says it");
  }
  samples = std::min(samples, kMostSamples);
  if (terms.packed.empty()) return draft.out.set("train.batch.samples", fmt::format("{}", samples), remark);
  const auto tokens = samples * in_range(row_tokens);
  draft.out.set("train.batch.samples", fmt::format("{}", std::clamp<int64_t>(tokens / 16, 1, kMostSamples)),
                "as many as `tokens` has room for");
  draft.out.set("train.batch.tokens", fmt::format("{}", tokens),
                fmt::format("{}: {}, of {} tokens each", terms.packed, remark, row_tokens));
}

void translate_optimizer(Draft& draft, const TrainerTerms& terms) {
  const auto name = draft.text(terms.optimizer);
  const auto ours = our_optimizer(name);
  if (!ours.empty()) {
    draft.out.set("train.optimizer.kind", ours, fmt::format("{}: {}", terms.optimizer, printable(name)));
  } else if (!name.empty()) {
    draft.out.set("train.optimizer.kind", "adamw");
    draft.look("train.optimizer.kind",
               fmt::format("{} is {} there, which is none of retort's; its learning rate may not be AdamW's",
                           terms.optimizer, printable(name)));
    draft.leave(terms.optimizer, "train.optimizer.kind is adamw, adamw8bit, sgd or lion; adamw is written");
  }
  const auto first = draft.number("adam_beta1"), second = draft.number("adam_beta2");
  if (first || second)
    draft.out.set("train.optimizer.betas",
                  fmt::format("[{}, {}]", shortest(first.value_or(0.9)), shortest(second.value_or(0.999))),
                  "adam_beta1, adam_beta2");
  if (terms.usual_rate > 0) draft.by_default("train.optimizer.learning_rate", shortest(terms.usual_rate));
}

// min_lr_rate of cosine_with_min_lr, min_lr_ratio of warmup_stable_decay; what else is there has no
// counterpart.
void translate_schedule_arguments(Draft& draft) {
  const auto* arguments = draft.take("lr_scheduler_kwargs");
  if (!arguments || is_off(*arguments)) return;
  if (arguments->kind != YamlNode::Kind::map)
    return draft.leave("lr_scheduler_kwargs", *arguments, "expected names and values");
  for (const auto& [key, value] : arguments->entries) {
    const auto number = number_of(value);
    const auto name = "lr_scheduler_kwargs." + key.text;
    if (number && (key.text == "min_lr_rate" || key.text == "min_lr_ratio"))
      draft.out.set("train.schedule.final_share", yaml_number(*number), name);
    else draft.leave(name, value, "train.schedule has kind, final_share and decay_share");
  }
}

void translate_schedule(Draft& draft, const TrainerTerms& terms) {
  auto name = draft.text(terms.schedule);
  const bool said = !name.empty();
  if (!said) name = terms.usual_schedule;
  const auto ours = our_schedule(name);
  draft.out.set("train.schedule.kind", ours.empty() ? "cosine" : ours,
                said ? fmt::format("{}: {}", terms.schedule, printable(name))
                     : fmt::format("the default of {}", name_of(draft.tool)));
  if (ours.empty()) {
    draft.look("train.schedule.kind",
               fmt::format("{} is {} there, which is none of retort's; cosine is written", terms.schedule,
                           printable(name)));
    draft.leave(terms.schedule, "train.schedule.kind is constant, linear, cosine or wsd; cosine is written");
  }
  translate_schedule_arguments(draft);

  const auto steps = draft.number("warmup_steps"), share = draft.number("warmup_ratio");
  if (name == "constant") {  // there without a warm-up, whatever is said of one
    for (const char* key : {"warmup_steps", "warmup_ratio"})
      draft.leave(key, "a constant rate has no warm-up there");
    return;
  }
  if (steps && *steps >= 1) {
    draft.out.set("train.schedule.warmup_steps", yaml_number(std::floor(*steps)), "warmup_steps");
    draft.leave("warmup_ratio", "warmup_steps goes before it");
  } else if (steps && *steps > 0) {
    draft.out.set("train.schedule.warmup_share", shortest(*steps),
                  "warmup_steps: a share where it is below 1");
    draft.leave("warmup_ratio", "warmup_steps goes before it");
  } else if (share && *share > 0) {
    draft.out.set("train.schedule.warmup_share", yaml_number(*share), "warmup_ratio");
  } else if (!steps && !share && terms.usual_warmup > 0) {
    draft.by_default("train.schedule.warmup_share", shortest(terms.usual_warmup));
  }
}

// A number of steps. What counts otherwise is left out.
void translate_interval(Draft& draft, const char* key, const std::string& ours) {
  const auto number = draft.number(key);
  if (!number || *number <= 0) return;
  if (*number < 1) return draft.leave(key, fmt::format("{} counts steps, and this is a share of them", ours));
  draft.out.set(ours, yaml_number(std::floor(*number)), key);
}

// A number of times in an epoch, instead of `steps`.
bool translate_times(Draft& draft, const char* key, const char* steps, const std::string& ours) {
  const auto times = draft.tool == Tool::axolotl ? draft.whole(key) : std::nullopt;
  if (!times || *times <= 0) return false;
  draft.out.set(ours, fmt::format("{}", *times), key);
  draft.leave(steps, fmt::format("{} says it", key));
  return true;
}

void translate_saves(Draft& draft) {
  if (translate_times(draft, "saves_per_epoch", "save_steps", "train.checkpoint.per_epoch"))
    return draft.leave("save_strategy", "saves_per_epoch says it");
  const auto saved = draft.text("save_strategy");
  if (saved == "no" || saved == "false") {
    draft.out.set("train.checkpoint.every", "0", "save_strategy: no; one is kept when the run is stopped");
    return draft.leave("save_steps", "save_strategy is no");
  }
  if (saved == "epoch") {
    draft.out.set("train.checkpoint.per_epoch", "1", "save_strategy: epoch");
    return draft.leave("save_steps", "save_strategy is epoch");
  }
  if (saved == "best") {
    draft.leave("save_steps", "save_strategy is best");
    return draft.leave("save_strategy", "train.evaluate.keep_best keeps the best one besides the others");
  }
  translate_interval(draft, "save_steps", "train.checkpoint.every");
}

void translate_evaluation(Draft& draft) {
  std::string strategy, key = "eval_strategy";
  for (const char* name : {"eval_strategy", "evaluation_strategy"})
    if (const auto text = draft.text(name); !text.empty()) strategy = text, key = name;
  translate_saves(draft);
  if (translate_times(draft, "evals_per_epoch", "eval_steps", "train.evaluate.per_epoch"))
    return draft.leave(key, "evals_per_epoch says it");
  // Axolotl evaluates where it is told how often.
  const bool by_steps = strategy == "steps" || (strategy.empty() && draft.tool == Tool::axolotl);
  if (by_steps) {
    translate_interval(draft, "eval_steps", "train.evaluate.every");
  } else {
    draft.take("eval_steps");
    draft.leave("eval_steps", fmt::format("it counts only where {} is steps", key));
  }
  if (strategy == "epoch") draft.out.set("train.evaluate.per_epoch", "1", key + ": epoch");
  else if (!strategy.empty() && strategy != "steps" && strategy != "no" && strategy != "false")
    draft.leave(key, "train.evaluate is by steps (every) or by epochs (per_epoch)");
}

}  // namespace

TrainerTerms trainers_own(double usual_rate, std::string packed) {
  return {.batch = "per_device_train_batch_size",
          .epochs = "num_train_epochs",
          .optimizer = "optim",
          .schedule = "lr_scheduler_type",
          .usual_batch = 8,
          .usual_epochs = 3,
          .usual_schedule = "linear",
          .usual_rate = usual_rate,
          .usual_warmup = 0,
          .packed = std::move(packed)};
}

void translate_training(Draft& draft, const TrainerTerms& terms, int64_t row_tokens) {
  translate_device(draft);
  translate_steps(draft, terms);
  translate_batch(draft, terms, row_tokens);
  translate_optimizer(draft, terms);
  translate_schedule(draft, terms);
  translate_evaluation(draft);
  leave_unknown_saves(draft);
  draft.by_default("train.seed", "42");
  const auto* recompute = draft.take("gradient_checkpointing");
  if (recompute && !is_off(*recompute))
    draft.out.set("train.recompute", "true", fmt::format("gradient_checkpointing: {}", shown(*recompute)));
}

void set_row_tokens(Draft& draft, int64_t row_tokens, const std::string& remark) {
  draft.out.set("data.sample_tokens", fmt::format("{}", row_tokens), remark);
  if (row_tokens > 2048)
    draft.out.set("train.batch.pass_tokens", fmt::format("{}", row_tokens), "the longest sample has room");
}

void set_held_out(Draft& draft, std::optional<double> said, const std::string& key, bool source_held_out) {
  const bool some = said && *said > 0;
  if (some && *said < 1) draft.out.set("data.held_out.fraction", yaml_number(*said), key);
  else if (some) draft.out.set("data.held_out.count", yaml_number(std::floor(*said)), key);
  else
    draft.out.set("data.held_out.fraction", "0",
                  source_held_out ? "sources say which records are held out"
                                  : fmt::format("{} keeps none back either", name_of(draft.tool)));
  if (some || source_held_out)
    return draft.out.set("eval.tasks.0.kind", "perplexity", "of the held-out samples");
  for (const char* chosen : {"train.evaluate.keep_best", "train.evaluate.patience"}) {
    const auto value = draft.out.value(chosen);
    if (value.empty() || value == "false" || value == "0") continue;
    const auto theirs = draft.out.remark(chosen);
    draft.out.unset(chosen);
    draft.look("data.held_out",
               fmt::format("nothing is held out, so that {}: {} ({}) has no loss to go by and is left out",
                           chosen, value, theirs));
  }
}

void set_base(Draft& draft, const std::string& key, int bits, const std::string& bits_key) {
  const auto theirs = draft.text(key);
  const auto& path = draft.options.model.empty() ? theirs : draft.options.model;
  if (path.empty())
    throw RecipeError(fmt::format("{}: names no model; name one with --model", printable(draft.file)));
  draft.set_path("model.path", path,
                 draft.options.model.empty() ? key
                 : theirs.empty()            ? "--model"
                                             : fmt::format("--model; {} there: {}", key, printable(theirs)));
  if (bits == 0) return;
  const auto what = fmt::format("{}: {} bits", bits_key, bits);
  if (path.ends_with(".gguf"))
    draft.out.set("model.weights", "keep", what + "; a .gguf file is trained on as it is");
  else draft.out.set("model.weights", bits == 4 ? "nf4" : "int8", what);
}

void set_low_rank(Draft& draft, const std::string& remark, const std::string& dora,
                  const std::string& rslora) {
  const bool with_dora = draft.truth(dora), with_rslora = draft.truth(rslora);
  draft.out.set("adapter.kind",
                with_dora     ? "dora"
                : with_rslora ? "rslora"
                              : "lora",
                with_dora     ? dora
                : with_rslora ? rslora
                              : remark);
  if (with_dora && with_rslora) {
    draft.leave(rslora, "adapter.kind is one of dora and rslora; dora is written");
    draft.look("adapter.alpha",
               "with rsLoRA the update is scaled by alpha / sqrt(rank), here by alpha / rank");
  }
}

void set_adapter_from(Draft& draft, const std::string& folder, const std::string& key) {
  std::error_code none;
  if (!std::filesystem::is_directory(folder, none)) {
    draft.look(
        "adapter.kind",
        fmt::format("there the training starts from {}, which is no folder here; set adapter.from, and "
                    "leave the other keys of this section out",
                    printable(folder)));
    return draft.leave(key, "adapter.from starts from a folder, and this one is not here");
  }
  for (const char* ours : {"kind", "rank", "alpha", "dropout", "targets", "modules_to_save"})
    draft.out.unset(std::string("adapter.") + ours);
  draft.out.set("adapter.from", yaml_text(folder),
                key + "; kind, rank, alpha and targets are taken from there");
}

void set_exports(Draft& draft, bool low_rank, const std::string& merged) {
  const bool folder = !merged.empty() || !low_rank;
  draft.out.set("export.adapter", low_rank ? "true" : "false",
                low_rank ? fmt::format("in PEFT's form, as {} writes it", name_of(draft.tool)) : "");
  draft.out.set("export.merged", folder ? "bf16" : "none",
                folder ? merged + (merged.empty() ? "" : ": ") + "a folder that transformers opens" : "");
  draft.out.set("export.gguf", "[]", "[Q4_K_M, Q8_0] writes files for llama.cpp");
}

}  // namespace retort
