// `retort plan CONFIG`: what a model needs that is not here.
#include <fmt/core.h>

#include <algorithm>

#include "base/byte_size.h"
#include "base/disk_speed.h"
#include "base/machine_memory.h"
#include "cli/commands.h"
#include "cli/machines_option.h"
#include "models/read_config.h"
#include "models/text_part.h"
#include "ops/workers.h"
#include "plan/known_models.h"
#include "plan/shape_plan.h"
#include "report/progress.h"
#include "report/run_record.h"

namespace retort {

namespace {

constexpr double kAssumedDisk = 2e9;

struct PlanOptions {
  std::string path, weights, memory, scratch, scratch_holds = "states", disk;
  double tokens = 1e6, price = 0, gflops = 0;
  int64_t length = 4096, threads = 0;
  AdapterSpec adapter;
  MachinesOptions machines;
  double step_tokens = 65536;
  bool json = false;
};

double size_or(const std::string& option, const std::string& text, double otherwise) {
  if (text.empty()) return otherwise;
  const auto size = byte_size(text);
  if (!size)
    throw RecipeError(fmt::format("{}: '{}' is no size; expected a number with a unit, like 16GiB", option,
                                  printable(text)));
  return static_cast<double>(*size);
}

struct Disk {
  double speed = kAssumedDisk;
  std::string known = "assumed; --disk says it, or a folder with its weights is measured";
};
Disk disk_of(const PlanOptions& options) {
  if (!options.disk.empty()) return {size_or("--disk", options.disk, 0), "as --disk says"};
  if (!std::filesystem::is_directory(options.path)) return {};
  for (const auto& entry : std::filesystem::directory_iterator(options.path))
    if (entry.path().extension() == ".safetensors")
      if (const auto speed = disk_speed(entry.path()); speed > 0)
        return {speed, "measured on " + printable(entry.path().filename().string())};
  return {};
}

ModelConfig config_at(const std::string& path) {
  const auto file = std::filesystem::is_directory(path) ? std::filesystem::path(path) / "config.json"
                                                        : std::filesystem::path(path);
  const bool there = std::filesystem::exists(path);
  const auto known = there ? std::nullopt : known_config(path);
  if (!there && !known)
    throw RecipeError(
        fmt::format("{}: there is no such file; expected a config.json, a folder that holds one, or a model "
                    "whose shape is "
                    "written down here: {}",
                    printable(path), known_model_names()));
  auto json = known ? *known : read_json(file);
  if (auto text = text_config(json, file.string())) json = std::move(*text);
  return config_from_hf(json, file.string(), !json.value("tie_word_embeddings", false));
}

// As config.json says that the matrices are stored.
std::optional<WeightType> stored_type(const ModelConfig& config) {
  if (config.four_bit) return WeightType::packed4;
  return config.fp8 ? WeightType::f8_e4m3 : WeightType::bf16;
}

std::string count_of(double number) {
  if (number >= 1e12) return fmt::format("{:.2f} T", number / 1e12);
  if (number >= 1e9) return fmt::format("{:.1f} G", number / 1e9);
  return fmt::format("{:.1f} M", number / 1e6);
}

std::string time_of(double seconds) {
  if (seconds >= 48 * 3600) return fmt::format("{:.1f} days", seconds / 86400);
  if (seconds >= 2 * 3600) return fmt::format("{:.1f} h", seconds / 3600);
  return seconds >= 120 ? fmt::format("{:.1f} min", seconds / 60) : fmt::format("{:.1f} s", seconds);
}

// A rank has all threads of the smallest machine, unless --threads says how many.
int64_t threads_of_rank(const PlanOptions& options, const std::vector<RankMachine>& machines) {
  if (options.threads > 0) return options.threads;
  if (options.machines.file.empty()) return usable_threads(0);
  return std::ranges::min_element(machines, {}, &RankMachine::threads)->threads;
}

Exit plan(const PlanOptions& options) {
  const auto config = config_at(options.path);
  const auto type = options.weights.empty() ? stored_type(config) : type_from_name(options.weights);
  if (!type) throw RecipeError("--weights: unknown type '" + printable(options.weights) + "'");
  if (options.length < 1 || options.tokens < 1)
    throw RecipeError("--tokens and --length: expected at least 1");
  if (const auto reason = beyond_context_is(config); !reason.empty() && options.length > config.context)
    throw RecipeError(fmt::format(
        "--length: {} tokens; texts of this model are trained and read up to {} tokens: past them {}",
        options.length, config.context, reason));
  const auto model = build_shape(config);
  const auto shape = shape_of(*model, *type, options.adapter);
  if (options.threads < 0) throw RecipeError("--threads: expected a number above 0, or 0: as many as here");
  if (!(options.step_tokens >= 1 && options.step_tokens <= 1e12))
    throw RecipeError("--step-tokens: expected 1 to 10^12 tokens");
  const auto machines = options.machines.asked() ? options.machines.machines() : std::vector<RankMachine>();
  const auto threads = threads_of_rank(options, machines);
  require_threads(options.machines, machines, machines.empty() ? 0 : threads);
  const auto disk = disk_of(options);
  PlanMachine machine;
  machine.memory = size_or("--memory", options.memory, static_cast<double>(machine_memory().available) / 2);
  machine.scratch = size_or("--scratch", options.scratch, 0);
  machine.keeps_activations = options.scratch_holds == "activations";
  if (machine.keeps_activations && machine.scratch == 0)
    throw RecipeError("--scratch-holds: activations lie in the scratch folder; say its room with --scratch");
  machine.disk = disk.speed;
  machine.threads = threads;
  machine.products = options.gflops > 0 ? options.gflops * 1e9
                                        : gemm_speed(gemm_kernel(Operand::bf16)).product * 1e9 *
                                              static_cast<double>(threads);
  if (options.price > 0) machine.hourly = options.price;
  const auto rows = plan_rows(*model, shape, machine, {options.tokens, static_cast<double>(options.length)},
                              options.adapter);
  const PlanText step_text{options.step_tokens, static_cast<double>(options.length)};
  const auto step = lone_step(shape, machine, step_text);
  std::optional<RankPlans> ranks;
  if (options.machines.asked())
    ranks = plan_machines(step, machines, bytes_of_rank(*model, shape, machine, step_text, options.adapter));
  if (options.json) {
    OrderedJson out = {{"parameters", shape.parameters},   {"active", shape.active},
                       {"layer_bytes", shape.layer_bytes}, {"outside_bytes", shape.outside_bytes},
                       {"memory", machine.memory},         {"disk", machine.disk},
                       {"products", machine.products},     {"uses", OrderedJson::array()}};
    for (const auto& row : rows)
      out["uses"].push_back({{"use", row.use},
                             {"resident_bytes", row.memory},
                             {"tokens_a_pass", row.tokens_a_pass},
                             {"scratch_bytes", row.scratch},
                             {"bytes_read", row.bytes_read},
                             {"flop", row.flop},
                             {"disk_seconds", row.disk_seconds},
                             {"product_seconds", row.product_seconds},
                             {"seconds", row.seconds()}});
    if (ranks) out["ranks"] = json_of(step, *ranks);
    fmt::print("{}\n", out.dump(1));
    return Exit::done;
  }
  const auto gigabytes = [](double bytes) { return fmt::format("{:.2f} GB", bytes / 1e9); };
  fmt::print(
      "model      {}: {} weights, {} of them for each token, {} layers; {} in the layers as {}, {} outside "
      "of "
      "them\n",
      config.family, count_of(shape.parameters), count_of(shape.active), config.layers,
      gigabytes(shape.layer_bytes), type_info(*type).name, gigabytes(shape.outside_bytes));
  fmt::print("machine    {} for layers and texts; disk {}/s ({}); matrix products {:.0f} GFLOP/s ({})\n",
             gigabytes(machine.memory), gigabytes(machine.disk), disk.known, machine.products / 1e9,
             options.gflops > 0 ? "as --gflops says" : fmt::format("measured, {} threads", threads));
  fmt::print("texts      {} tokens in texts of {}\n\n", count_of(options.tokens), options.length);
  Table table;
  table.head = {"layer by layer", "in memory", "tokens a pass", "from disk",
                "reading",        "computing", "in all"};
  if (machine.scratch > 0) table.head.push_back("scratch");
  if (machine.hourly) table.head.push_back("price");
  for (const auto& row : rows) {
    table.rows.push_back({row.use, gigabytes(row.memory), fmt::format("{:.0f}", row.tokens_a_pass),
                          gigabytes(row.bytes_read), time_of(row.disk_seconds), time_of(row.product_seconds),
                          time_of(row.seconds())});
    if (machine.scratch > 0) table.rows.back().push_back(gigabytes(row.scratch));
    if (machine.hourly)
      table.rows.back().push_back(fmt::format("{:.2f}", row.seconds() / 3600 * *machine.hourly));
  }
  fmt::print("{}\n", table_text(table));
  if (type_info(*type).block_elements == 1 && *type != WeightType::f8_e4m3 &&
      shape.layer_bytes > machine.memory * 8)
    fmt::print("fewer bits are read faster: --weights q4_k shows how much\n");
  if (ranks) {
    fmt::print("\nLoRA by retort-ranks, the model in memory, steps of {} tokens in texts of {}\n{}",
               count_of(options.step_tokens), options.length, describe(step, *ranks));
    if (const auto missing = missing_memory(*ranks); !missing.empty())
      fmt::print("note         {}\n", missing);
  }
  return Exit::done;
}

}  // namespace

void add_plan(CLI::App& app, Action& action) {
  auto* command = app.add_subcommand(
      "plan", "Memory, disk and time of a model that is read layer by layer, from its config.json alone");
  auto options = std::make_shared<PlanOptions>();
  command
      ->add_option(
          "path", options->path,
          "a config.json, a model folder that holds one, or a name that is known: " + known_model_names())
      ->required();
  command->add_option("--weights", options->weights,
                      "type that its matrices are stored in: bf16, q4_k, f8_e4m3 ...; without it, what "
                      "config.json's quantization_config says, or bf16");
  command->add_option("--tokens", options->tokens, "tokens of all texts");
  command->add_option("--length", options->length, "tokens of one text");
  command->add_option("--memory", options->memory,
                      "what layers and texts may take, as model.memory; half of what is free");
  command->add_option("--scratch", options->scratch,
                      "room on the disk where texts wait between layers (model.scratch); none: in memory");
  command
      ->add_option("--scratch-holds", options->scratch_holds,
                   "states, or activations too, so that training computes no layer without experts twice "
                   "(model.scratch_holds)")
      ->check(CLI::IsMember({"states", "activations"}));
  command->add_option("--disk", options->disk, "bytes a second that the disk gives, e.g. 3GB");
  command->add_option("--gflops", options->gflops,
                      "10^9 operations a second of all threads, instead of this machine's");
  command->add_option(
      "--threads", options->threads,
      "that work side by side, each on a text of its own, and those of a rank; as many as this "
      "machine, or the smallest of --machines, has");
  command->add_option("--price", options->price, "of an hour of the machine");
  command->add_option("--rank", options->adapter.rank, "of the LoRA adapter");
  command->add_option("--targets", options->adapter.targets, "layers that the adapter is on");
  command->add_option("--step-tokens", options->step_tokens,
                      "tokens of a training step that ranks divide (65536)");
  add_machines_options(*command, options->machines);
  command->add_flag("--json", options->json, "for programs");
  command->callback([options, &action] { action = [options] { return plan(*options); }; });
}

}  // namespace retort
