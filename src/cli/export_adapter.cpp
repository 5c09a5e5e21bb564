#include "cli/export_adapter.h"

#include <fmt/core.h>

#include <filesystem>
#include <numeric>

#include "base/files.h"
#include "base/json_fields.h"
#include "base/tell.h"
#include "data/dataset.h"
#include "eval/compare.h"
#include "export/rehearse.h"
#include "forest/forest.h"
#include "generate/generate.h"
#include "ops/workers.h"
#include "report/fidelity.h"
#include "run/export_list.h"
#include "run/export_notes.h"

namespace retort {

namespace {

namespace fs = std::filesystem;

constexpr double kSameModel = 1e-6;  // nats: an adapter read back is the same arithmetic on the same numbers
constexpr int64_t kTexts = 4, kTokens = 64, kRows = 1024;

// There are no held-out samples here, so that files are compared over what the model itself writes.
std::vector<Forest> own_texts(const LoadedModel& loaded, at::ScalarType compute, int64_t threads) {
  const auto& tokenizer = *loaded.tokenizer;
  std::vector<int32_t> begin;
  if (tokenizer.bos) begin.push_back(*tokenizer.bos);
  else begin = tokenizer.encode("The");
  if (begin.empty()) begin.push_back(0);
  SampleSpec sample;
  sample.temperature = 1;
  sample.max_tokens = std::min(kTokens, loaded.model->config.context - static_cast<int64_t>(begin.size()));
  Writer writer{*loaded.model, tokenizer, compute};
  writer.how.threads = threads;
  const std::vector<std::vector<int32_t>> prompts(kTexts, begin);
  std::vector<Sample> samples;
  for (const auto& answer : generate(writer, prompts, {sample, {}})) {
    auto tokens = begin;
    tokens.insert(tokens.end(), answer.tokens.begin(), answer.tokens.end());
    samples.push_back({tokens, std::vector<float>(tokens.size(), 1), fmt::format("text {}", samples.size())});
  }
  return build_forests(samples, kRows);
}

// What was written, and how near it is.
struct Written {
  std::string name;
  Artefact artefact;
  std::optional<Agreement> agreement;
  template <class Visitor> void fields(Visitor& field) {
    field("name", name);
    field("artefact", artefact);
    field.rare("agreement", agreement);
  }
};

struct ExportRecord {
  std::string model, model_sha256;
  std::vector<std::string> adapters, notes;
  std::vector<Written> exports;
  template <class Visitor> void fields(Visitor& field) {
    field("model", model);
    field("model_sha256", model_sha256);
    field("adapters", adapters);
    field("notes", notes);
    field("exports", exports);
  }
};

LoadedModel reopened(const AdapterExport& options, const Export& one) {
  if (one.whole_model) return load_model({.path = one.path.string()});
  auto base = load_model(options.model);
  load_adapter(base, one.path);
  return base;
}

// An adapter, or a file of fp32, that is another model is a mistake of retort's.
void require_exact(const Written& written, const Export& one) {
  const auto within = one.whole_model ? written.artefact.exact_within : std::optional<double>(kSameModel);
  if (within && !(written.agreement->kl_nats <= *within))
    throw Failure(
        fmt::format("{}: it reads back {:.2e} nats a token from the model that was written, of at most "
                    "{:g}; that is a mistake of retort's: do not deploy it, and please report it",
                    written.name, written.agreement->kl_nats, *within));
}

std::string described(const Written& written) {
  auto text =
      fmt::format("{:<12} {}, {}", written.artefact.kind, written.name, bytes(written.artefact.bytes));
  if (const auto& found = written.agreement)
    text += fmt::format(": KL {:.2e} nats a token, top-1 {:.1f} % ({})", found->kl_nats, 100 * found->top1,
                        fidelity_of(found->kl_nats, found->top1));
  return text;
}

}  // namespace

Exit export_adapters(const AdapterExport& options) {
  const fs::path folder = options.output;
  const auto adapters = weighted_adapters(*options.adapters);  // a wrong weight costs no loading
  const auto threads = usable_threads(options.threads);
  const auto& exports = options.exports;
  if (folder.empty()) throw RecipeError("--output: missing; expected the folder that is written");
  if (exports.merged == "none" && exports.gguf.empty() && !exports.adapter && !exports.gguf_adapter)
    throw RecipeError(
        "nothing to write: name --merged TYPE, --gguf TYPE, --gguf-adapter or --peft, or several of them");
  if (exports.merged == "keep" && options.model.weights != "keep")
    throw RecipeError(fmt::format("--merged keep writes the base's own matrices; --weights {} holds others",
                                  options.model.weights));
  if (adapters.empty() && (exports.adapter || exports.gguf_adapter))
    throw RecipeError("--peft and --gguf-adapter write an adapter; name one with --adapter");
  if (fs::exists(folder) && !(fs::is_directory(folder) && fs::is_empty(folder)))
    throw RecipeError(
        fmt::format("{}: is there already; name a folder that is not", printable(options.output)));

  auto loaded = load_model(options.model);
  loaded.sha256.begin();
  ExportRecord record;
  record.model = options.model.path;
  record.model_sha256 = loaded.sha256.get();
  for (const auto& [path, weight] : adapters)
    record.adapters.push_back(fmt::format("{:g} x {}", weight, path));
  record.notes = load_adapters(loaded, adapters);
  for (const auto& note : record.notes) tell("note: " + note);
  if (options.chat_template != "auto")
    use_template(loaded,
                 choose_chat_template({options.chat_template, {}, "--template"}, "", *loaded.tokenizer));
  rehearse_exports(loaded, exports, {.kind = "none", .modules_to_save = {}}, folder);

  const auto spec = described_adapter(*loaded.model);
  const auto compute = compute_type(options.model);
  std::vector<Forest> texts;
  if (options.compare) texts = own_texts(loaded, compute, threads);
  make_folder(folder);
  for (const auto& one : exports_of(exports, spec, folder, threads)) {
    require_space(folder, one.expected_bytes * parameters_of(*loaded.model));
    Written written{one.path.string(), one.write(loaded, one.path), {}};
    if (options.compare) {
      const auto opened = reopened(options, one);
      written.agreement =
          compare_models({*loaded.model, at::kFloat}, {*opened.model, at::kFloat}, texts, threads);
      require_exact(written, one);
    }
    fmt::print("{}\n", described(written));
    std::fflush(stdout);
    auto lines = written.artefact.ignored;
    for (const auto& line : written.artefact.fallbacks)
      lines.push_back("rows that do not fill a block take llama.cpp's fallback type: " + line);
    if (auto line = describe_rounding(written.artefact); !line.empty()) lines.push_back(line);
    for (const auto& line : lines) {
      record.notes.push_back(written.name + ": " + line);
      tell("note: " + record.notes.back());
    }
    record.exports.push_back(std::move(written));
  }
  write_text(folder / "export.json", json_of(record).dump(2) + "\n");
  fmt::print("{:<12} {}\n", "record", (folder / "export.json").string());
  return Exit::done;
}

}  // namespace retort
