// What a bill of materials says of files: their hashes, and what they state of themselves.
#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "base/unfinished_file.h"
#include "data/record.h"
#include "formats/weight_file.h"
#include "models/read_config.h"
#include "models/text_part.h"
#include "run/model_bom.h"

namespace retort {

namespace fs = std::filesystem;

namespace {

std::string name_of(const fs::path& path) {
  return path.has_filename() ? path.filename().string() : path.parent_path().filename().string();
}

void sort_by_path(std::vector<FileRecord>& files) {
  std::sort(files.begin(), files.end(),
            [](const FileRecord& a, const FileRecord& b) { return a.path < b.path; });
}

// Hashes are known already: whoever opened the files asked for them (base/hash.h).
template <class Paths> BomFiles files_at(const fs::path& root, const Paths& paths) {
  BomFiles found{name_of(root), {}};
  for (const auto& each : paths) {
    const fs::path path = each;
    found.files.push_back(record_file(
        path, fs::is_directory(root) ? path.lexically_relative(root).string() : path.filename().string()));
  }
  sort_by_path(found.files);
  return found;
}

// As the manifest names files: absolute, without a separator at the end.
fs::path absolute_name(const fs::path& path) {
  auto name = fs::absolute(path).lexically_normal();
  return name.has_filename() ? name : name.parent_path();
}

// What the run read of ROOT: a file, a folder or, where `there` names them, the files of a pattern or a split
// file. Of one that is gone since, its name. Failure where files are there and none was recorded.
BomFiles files_read_of(const Run& run, const Manifest& manifest, const fs::path& root,
                       const std::vector<fs::path>& there = {}) {
  BomFiles found{name_of(root), {}};
  const auto whole = absolute_name(root);
  std::set<fs::path> named = {whole};
  for (const auto& file : there) named.insert(absolute_name(file));
  const auto add = [&](const fs::path& path, const FileRecord& record) {
    auto name = path.lexically_relative(whole);
    const bool beneath = !name.empty() && *name.begin() != ".." && path != whole;
    if (!beneath && !named.contains(path)) return;
    if (!beneath) name = path.filename();
    found.files.push_back({name.string(), record.bytes, record.sha256});
  };
  for (const auto& record : manifest.read) add(absolute_name(record.path), record);
  if (found.files.empty())  // in the run's own folder
    for (const auto& record : manifest.written) add(absolute_name(run.folder() / record.path), record);
  found.gone = found.files.empty() && there.empty() && !fs::exists(root);
  if (found.files.empty() && !found.gone)
    throw Failure(
        fmt::format("{}: the run's manifest names no file of it, so that a bill of materials would "
                    "not either; this is a mistake of retort's, please report it",
                    printable(root.string())));
  sort_by_path(found.files);
  return found;
}

// A .gguf file may be one of several.
std::vector<fs::path> files_of_teacher(const fs::path& path) {
  if (fs::is_directory(path) || !fs::exists(path)) return {};
  return model_files(path);
}

// The path may be a folder or a pattern.
std::vector<fs::path> files_of_questions(const EvalTaskSpec& task) {
  SourceSpec bare;
  bare.path = task.path;
  try {
    const auto files = source_files(task.source ? *task.source : bare);
    std::vector<fs::path> there(files.begin(), files.end());
    std::erase_if(there, [](const fs::path& file) { return !fs::exists(file); });
    return there;
  } catch (const Error&) { return {}; }  // a pattern that fits nothing any more
}

// Those of an export, by their names in `folder`.
std::vector<FileRecord> exported_files(const fs::path& run, const ModelResult& model,
                                       const fs::path& folder) {
  const auto path = run / model.name;
  std::vector<FileRecord> files;
  const auto add = [&](const fs::path& file) {
    files.push_back(record_file(file, file.lexically_relative(run / folder).string()));
  };
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::recursive_directory_iterator(path)) {
      const auto name = entry.path().filename().string();
      const bool beside = name == "README.md" || name == kBomFile || name == "model.sig";
      if (entry.is_regular_file() && !beside && !is_unfinished(name)) add(entry.path());
    }
  } else {
    add(path);
    auto modelfile = path;
    modelfile.replace_extension(".Modelfile");
    if (fs::is_regular_file(modelfile)) add(modelfile);
  }
  sort_by_path(files);
  return files;
}

BomShape shape_of(const fs::path& path) {
  BomShape shape;
  if (!fs::is_directory(path)) {
    const auto file = open_gguf(path);
    shape.config = config_from_gguf(file);
    if (const auto* kind = text(file.metadata("tokenizer.ggml.model"))) shape.tokenizer = *kind;
    if (const auto version = whole_number(file.metadata("general.quantization_version")))
      shape.quantization_version = std::to_string(*version);
    return shape;
  }
  const auto config = path / "config.json";
  auto json = read_json(config);
  if (auto part = text_config(json, config.string())) json = std::move(*part);
  // Only sizes are asked for: whether the head is a matrix of its own changes none of them.
  shape.config = config_from_hf(json, config.string(), true);
  if (const auto file = path / "tokenizer_config.json"; fs::is_regular_file(file)) {
    const auto settings = read_json(file);
    if (settings.is_object() && settings.contains("tokenizer_class") &&
        settings["tokenizer_class"].is_string())
      shape.tokenizer = settings["tokenizer_class"].get<std::string>();
  }
  return shape;
}

// "license: apache-2.0" of the metadata above a model card; hubs' own licences are "other" with a name.
std::string license_of_card(const std::string& card) {
  if (!card.starts_with("---\n")) return "";
  const auto end = card.find("\n---", 3);
  if (end == std::string::npos) return "";
  const auto value_of = [&](const std::string& key) {
    const auto at = card.find("\n" + key + ":", 3);
    if (at == std::string::npos || at >= end) return std::string();
    const auto begin = at + key.size() + 2;
    auto value = card.substr(begin, card.find('\n', begin) - begin);
    const auto first = value.find_first_not_of(" \t\"'"), last = value.find_last_not_of(" \t\r\"'");
    return first == std::string::npos ? std::string() : value.substr(first, last - first + 1);
  };
  const auto license = value_of("license");
  const auto name = license == "other" ? value_of("license_name") : "";
  return name.empty() ? license : name;
}

std::string license_stated_by(const fs::path& model) {
  constexpr uint64_t longest = 1 << 20;  // of a card
  if (!fs::is_directory(model)) {
    const auto file = open_gguf(model);
    const auto* license = text(file.metadata("general.license"));
    return license ? *license : "";
  }
  const auto card = model / "README.md";
  if (!fs::is_regular_file(card) || fs::file_size(card) > longest) return "";
  return license_of_card(read_text(card, longest));
}

}  // namespace

OrderedJson bom_of_folder(const Run& run, const RunResult& result, const RunRecord& record,
                          const Manifest& manifest, const fs::path& folder,
                          const std::vector<const ModelResult*>& models) {
  const auto& recipe = run.recipe();
  const fs::path base = recipe.model.path;
  BomInputs inputs{
      recipe, result, record.gates, files_at(base, model_files(base)), license_stated_by(base), {}, {}, {},
      {},     {}};
  for (const auto& adapter : recipe.adapter.merge)
    inputs.adapters.push_back(files_read_of(run, manifest, adapter.path));
  if (!recipe.adapter.from.empty())
    inputs.adapters.push_back(files_read_of(run, manifest, recipe.adapter.from));
  if (recipe.teacher) {
    const auto& teacher = *recipe.teacher;
    if (!teacher.path.empty())
      inputs.teacher = files_read_of(run, manifest, teacher.path, files_of_teacher(teacher.path));
    else if (!teacher.distillkit.empty()) inputs.teacher = files_read_of(run, manifest, teacher.distillkit);
    else
      inputs.teacher = BomFiles{teacher.server.model.empty() ? "behind a server" : teacher.server.model, {}};
  }
  for (const auto& source : recipe.data.sources)
    inputs.sources.push_back(files_at(source.path, source_files(source)));
  for (const auto& task : recipe.eval.tasks) {
    const auto& path = task.source ? task.source->path : task.path;
    if (path.empty()) continue;
    inputs.questions.push_back(files_read_of(run, manifest, path, files_of_questions(task)));
  }
  inputs.card = record_file(run.folder() / folder / "README.md", "README.md");

  std::vector<BomExport> exports;
  for (const auto* model : models) {
    BomExport one{model, exported_files(run.folder(), *model, folder), {}};
    const auto& kind = model->artefact->kind;
    if (kind == "gguf" || kind == "safetensors") one.shape = shape_of(run.folder() / model->name);
    else if (!recipe.prune) one.shape = shape_of(base);  // of one that was cut no file says it
    if (one.shape && kind != "gguf") one.shape->quantization_version.clear();
    exports.push_back(std::move(one));
  }
  return model_bom(inputs, exports);
}

}  // namespace retort
