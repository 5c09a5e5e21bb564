#include "run/stages.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/profile.h"
#include "base/stop.h"

namespace retort {

namespace fs = std::filesystem;

namespace {

// Every file of the outputs, relative to the run's folder, with its hash.
std::vector<FileRecord> outputs_on_disk(const fs::path& folder, const std::vector<fs::path>& outputs) {
  std::vector<fs::path> files;
  for (const auto& output : outputs) {
    const auto path = folder / output;
    if (fs::is_regular_file(path)) files.push_back(path);
    if (!fs::is_directory(path)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(path)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<FileRecord> list;
  for (const auto& file : files) list.push_back(record_file(file, file.lexically_relative(folder).string()));
  return list;
}

// stages.json. The version is read before the rest, which another one may have otherwise.
struct LedgerVersion {
  int64_t version = 1;
  template <class Visitor> void fields(Visitor& field) { field("version", version); }
};
struct LedgerFile {
  int64_t version = 1;
  std::map<std::string, StageRecord> stages;
  std::set<std::string> read;
  template <class Visitor> void fields(Visitor& field) {
    field("version", version), field("stages", stages), field("read", read);
  }
};

constexpr const char* kLedger = "stages.json";

JsonPlace ledger_place(const fs::path& folder) {
  return {(folder / kLedger).string(), "", "move it away to start the run again"};
}

// The name for as long as the program runs; an export's is a path, of which a trace shows letters, digits and
// signs that need no escape.
const char* profile_name(const std::string& name) {
  static std::set<std::string> names;
  std::string plain;
  for (const char c : name) plain += c >= ' ' && c < 127 && c != '"' && c != '\\' ? c : '?';
  return names.insert(plain).first->c_str();
}

}  // namespace

StageInputs& StageInputs::add(const std::string& name, const std::string& text) {
  description_ += fmt::format("{} {}\n{}\n", name, text.size(), text);
  return *this;
}

StageInputs& StageInputs::add_file(const fs::path& file) { return add("file", sha256_file(file)); }

std::string StageInputs::sha256() const { return retort::sha256(description_); }

StageLedger::StageLedger(fs::path folder) : folder_(std::move(folder)) {
  make_folder(folder_);
  const auto file = folder_ / kLedger;
  if (!fs::exists(file)) return;
  const auto json = read_json(file);
  const auto place = ledger_place(folder_);
  if (read_as<LedgerVersion>(json, place).version != 1)
    corrupt(file.string(), "", "is not a ledger of this version; " + place.advice);
  auto ledger = read_as<LedgerFile>(json, place);
  stages_ = std::move(ledger.stages);
  read_ = std::move(ledger.read);
}

JsonPlace StageLedger::values_place(const std::string& name) const {
  return ledger_place(folder_).at("stages").at(name).at("values");
}

void StageLedger::let_go() {
  held_ = false;
  if (waiting_) save();
}

void StageLedger::save() {
  waiting_ = held_;
  if (held_) return;
  const auto inside = fs::absolute(folder_).lexically_normal().string() + "/";
  for (const auto& file : retort::files_read()) {
    if (!file.string().starts_with(inside)) read_.insert(file.string());
  }
  write_text(folder_ / kLedger, json_of(LedgerFile{1, stages_, read_}).dump(1) + "\n");
}

void StageLedger::record(const std::string& name, const StageRecord& stage) {
  if (!events_) return;
  const auto inside = fs::absolute(folder_).lexically_normal().string() + "/";
  auto read = OrderedJson::array();
  for (const auto& file : retort::files_read()) {
    const auto path = file.string();
    if (path.starts_with(inside) || read_.count(path) || !fs::is_regular_file(file)) continue;
    read.push_back(json_as<OrderedJson>(record_file(file, path)));
  }
  if (!read.empty()) events_->add("read", {{"files", read}});
  events_->add("stage", {{"stage", name},
                         {"inputs", stage.inputs},
                         {"seconds", stage.seconds},
                         {"written", json_as<OrderedJson>(stage.outputs)}});
}

std::vector<fs::path> StageLedger::files_read() const { return {read_.begin(), read_.end()}; }

std::string StageLedger::outputs_hash(const std::string& name) const {
  return sha256(json_of(stages_.at(name).outputs).dump());
}

std::string StageLedger::hash(const std::set<std::string>& except) const {
  auto others = stages_;
  for (const auto& name : except) others.erase(name);
  return sha256(json_of(others).dump());
}

bool StageLedger::done(const std::string& name, const StageInputs& inputs) const {
  const auto recorded = stages_.find(name);
  return recorded != stages_.end() && recorded->second.inputs == inputs.sha256() &&
         still_there(recorded->second);
}

bool StageLedger::still_there(const StageRecord& stage) const {
  for (const auto& output : stage.outputs) {
    const auto path = folder_ / output.path;
    if (!fs::is_regular_file(path) || fs::file_size(path) != output.bytes) return false;
    if (sha256_file(path) != output.sha256) return false;
  }
  return true;
}

StageResult<Json> StageLedger::run_stage(const std::string& name, const StageInputs& inputs,
                                         const std::vector<fs::path>& outputs,
                                         const std::function<Json()>& work) {
  StageResult<Json> result{inputs.sha256(), {}, 0, false};
  const auto recorded = stages_.find(name);
  if (done(name, inputs)) {
    result.values = recorded->second.values;
    result.seconds = recorded->second.seconds;
    result.skipped = true;
    return result;
  }
  leave_if_stopped(name);
  // What was recorded no longer holds, whether or not the new work ends well.
  if (recorded != stages_.end()) stages_.erase(recorded);
  worked_ = true;
  const auto start = std::chrono::steady_clock::now();
  const Span span({profile_name(name), "stage"});
  result.values = work();
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  stages_[name] = {result.inputs, result.values, result.seconds, outputs_on_disk(folder_, outputs)};
  record(name, stages_[name]);
  save();
  return result;
}

}  // namespace retort
