#include "run/open_run.h"
#include "plan/predict.h"
#include "run/choices.h"
#include "run/model_bom.h"
#include "run/rank_memory.h"
#include "run/run_folder.h"
#include "run/run_stages.h"
#include "run/stage_distill.h"
#include "run/who.h"
#include "run/word.h"

#include <fmt/core.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <future>

#include "adapters/attach.h"
#include "adapters/load_adapter.h"
#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "base/peers.h"
#include "base/tell.h"
#include "data/beyond_context.h"
#include "data/check_samples.h"
#include "data/record_source.h"
#include "data/rows.h"
#include "data/token_store.h"
#include "eval/check_tasks.h"
#include "export/rehearse.h"
#include "formats/adapter_folder.h"
#include "formats/weight_file.h"
#include "models/layer_stream.h"
#include "models/own_templates.h"
#include "ops/device.h"
#include "ops/workers.h"
#include "plan/rank_plan.h"
#include "report/progress.h"
#include "spec/print.h"
#include "spec/yaml.h"
#include "train/peers.h"

namespace retort {

namespace fs = std::filesystem;

namespace {

constexpr const char* kOwnStore = "tokens.h5";

// Names and contents; equal files under other names are another input.
std::string hash_of_files(const std::vector<fs::path>& files) {
  Sha256 hash;
  for (const auto& file : files) hash.add(file.string() + "\n" + sha256_file(file) + "\n");
  return hash.hex();
}

// By another thread, once it is begun. The files count as read here, in their order.
Later<std::string> hash_beside(std::vector<fs::path> files) {
  for (const auto& file : files) const MappedFile noted(file);
  return Later<std::string>::of([files = std::move(files)] { return hash_of_files(files); });
}

// What chose the kind of arithmetic: another CPU may choose otherwise.
std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 1);
  return "unknown";
}

// Of the stage in the ledger.
struct ComputeChoice {
  std::string type;
  template <class Visitor> void fields(Visitor& field) { field("type", type); }
};

const char* compute_name(at::ScalarType type) { return type == at::kBFloat16 ? "bf16" : "f32"; }

}  // namespace

namespace {

// What prune.tokenizer names: a file, or those of a folder that tokenizers are read from.
void add_tokenizer_files(const fs::path& path, std::vector<fs::path>& files) {
  if (path.empty()) return;
  if (!fs::exists(path))
    throw RecipeError(fmt::format("prune.tokenizer: {}: no such file or folder", printable(path.string())));
  if (!fs::is_directory(path)) {
    files.push_back(path);
    return;
  }
  for (const auto& entry : fs::directory_iterator(path))
    if (entry.is_regular_file() &&
        (entry.path().extension() == ".json" || entry.path().extension() == ".model"))
      files.push_back(entry.path());
  std::sort(files.begin(), files.end());
}

}  // namespace

namespace {

// A private run in a folder whose files hold texts already would only seem private.
void require_as_private(const Recipe& recipe, const fs::path& folder) {
  const auto file = folder / "recipe.yaml";
  if (!recipe.is_private || !fs::exists(file)) return;
  std::vector<Problem> problems;
  const auto root = parse_yaml(read_text(file), file.string(), problems);
  const auto refuse = [&](const std::string& what) {
    throw RecipeError(fmt::format(
        "run.folder: {}: {}, and its files hold samples' texts; name a new folder, or remove this one",
        printable(folder.string()), what));
  };
  const auto* was = root.find("private");
  if (!was || was->text != "true") refuse("this run was not private so far");
  const auto* report = root.find("report");
  const auto* samples = report ? report->find("samples") : nullptr;
  const bool none = !samples || samples->kind != YamlNode::Kind::scalar || samples->text == "null";
  const auto before = none ? 0 : std::strtoll(samples->text.c_str(), nullptr, 10);
  if (before > recipe.shown_samples()) refuse(fmt::format("report.samples was {} so far", before));
}

OrderedJson names_inside(const std::vector<fs::path>& paths, const fs::path& folder) {
  auto names = OrderedJson::array();
  for (const auto& path : paths) names.push_back(path.lexically_relative(folder).string());
  return names;
}

}  // namespace

std::vector<fs::path> model_files(const fs::path& path) {
  std::vector<fs::path> files;
  const auto add = [&](const fs::path& file) {
    if (std::find(files.begin(), files.end(), file) == files.end()) files.push_back(file);
  };
  require_model_path("model.path: " + printable(path.string()), path);
  const bool folder = fs::is_directory(path);
  const auto weights = folder ? open_safetensors_folder(path) : open_gguf(path);
  for (const auto& tensor : weights.tensors) add(tensor.file->name());
  if (folder) {
    for (const auto& entry : fs::directory_iterator(path)) {
      const auto extension = entry.path().extension();
      const bool bill = entry.path().filename() == kBomFile;  // no loading opens it
      if (entry.is_regular_file() && !bill &&
          (extension == ".json" || extension == ".model" || extension == ".jinja"))
        add(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

Run::Run(LoadedRecipe loaded, Peers* peers, std::optional<at::ScalarType> compute)
    : loaded_(std::move(loaded)),
      peers_(peers),
      folder_(loaded_.recipe.run.folder),
      device_(open_device(loaded_.recipe.device, loaded_.recipe.device_memory)),
      measured_(compute) {
  require_run_or_empty(folder_);
  require_as_private(recipe(), folder_);
  auto files = model_files(recipe().model.path);
  if (recipe().prune) add_tokenizer_files(recipe().prune->tokenizer, files);
  for (const auto& adapter : recipe().adapter.merge)
    for (const auto& file : adapter_files(adapter.path)) files.push_back(file);
  if (!recipe().adapter.from.empty()) started_from_ = hash_of_files(adapter_files(recipe().adapter.from));
  model_files_ = hash_beside(std::move(files));
  model_files_.begin();
  std::vector<fs::path> sources;
  require_sources(recipe().data.sources);
  for (const auto& source : recipe().data.sources)
    for (const auto& file : source_files(source)) sources.emplace_back(file);
  if (const auto& forget = recipe().data.forget; !forget.empty() && fs::exists(forget))
    sources.emplace_back(forget);
  sample_files_ = hash_beside(std::move(sources));
  // A store that the recipe names is compared with these hashes before anything is read from it.
  if (own_store()) sample_files_.begin();
  else sample_files_.get();
  if (recipe().data.sources.empty())
    throw RecipeError(
        fmt::format("{}: data.sources: missing; expected a list of sections that say where samples come from",
                    loaded_.file));
  check_gates(recipe().gate, recipe().eval);
  // A run that begins reads everything once before it writes anything, so that bad input leaves nothing
  // behind.
  const bool begins = !holds_run(folder_);
  if (peers_ && peers_->rank() == 0) choose_for_all(begins);
  if (begins) look_at_everything();
  model_files_.get(), sample_files_.get();  // throw where a file cannot be read
  if (begins && peers_) agree_on_memory();
  lock_.emplace(folder_);
  const auto removed = remove_leftovers_of_run(folder_);
  events_.emplace(folder_);
  auto who = who_and_where(loaded_);
  if (!device_.is_cpu()) who["machine"]["device"] = describe(device_);
  events_->begin(std::move(who));
  ledger_.emplace(folder_);
  ledger_->record_in(*events_);
  // One that goes on does so where anything is new, and asks what is there whether it may: if not, what is
  // there stays as it is.
  events_->hold();
  ledger_->hold();
  const bool same_recipe =
      fs::exists(folder_ / "recipe.yaml") && read_text(folder_ / "recipe.yaml") == loaded_.resolved;
  if (!begins && (!same_recipe || !ledger_->done("samples", sample_inputs()))) look_at_everything();
  keep_to_budget();
  if (!begins && peers_) agree_on_memory();
  if (!begins) require_continuable(*this);
  if (events_->torn_bytes() > 0)
    say("ledger",
        fmt::format("{}: its last line was torn when a process was killed; the next entry takes its "
                    "place and says so",
                    (folder_ / kLedgerFile).string()));
  if (!removed.empty())
    events_->add("deleted", {{"files", names_inside(removed, folder_)},
                             {"why", "a killed process left them unfinished"}});
  events_->let_go();
  ledger_->let_go();
  if (!same_recipe) write_text(folder_ / "recipe.yaml", loaded_.resolved);
}

void Run::look_at_everything() {
  if (trains())
    for (const auto& note : require_start(model(), recipe().adapter)) say("note", note);
  require_usable_teacher(recipe(), model());
  // Beside the reading of the samples: it takes one thread for less time than they take.
  auto rehearsal = std::async(
      std::launch::async, [&] { rehearse_exports(model(), recipe().exports, recipe().adapter, folder_); });
  // So do the milliseconds that tell which arithmetic is the fastest, by that thread's own time.
  const bool told = measured_.has_value();
  auto measured = std::async(std::launch::async, [&] {
    if (trains() && !told) compute_type(recipe().model, device_);
  });
  read_samples();
  refuse_bad_samples(*dataset_, *model().tokenizer, chat());
  const auto& config = model().model->config;
  refuse_beyond_context(*dataset_, config.context, beyond_context_is(config));
  check_tasks(recipe().eval, recipe().data, static_cast<int64_t>(dataset_->held_out.size()));
  if (asks_held_out_prompts(recipe().eval))
    refuse_prompts_beyond_context(*dataset_, model().model->config.context);
  measured.get();
  refuse_without_memory();
  rehearsal.get();
}

void Run::read_samples() {
  const auto& data = recipe().data;
  const auto threads = recipe().train.threads;
  if (!own_store()) {
    dataset_ = load_dataset(data, *model().tokenizer, chat(), nullptr, threads);
    return;
  }
  const SourceFiles files(data.sources, threads);
  plan_ = plan_records(data, files);
  dataset_ = build_dataset(data, files, *plan_, *model().tokenizer, chat());
}

RecordPlan Run::take_plan(const RecordSource& files) {
  if (plan_) return *std::exchange(plan_, std::nullopt);
  return plan_records(recipe().data, files);
}

void Run::refuse_without_memory() {
  if (!trains() || (peers_ && peers_->rank() > 0)) return;
  auto planned = recipe();
  planned.adapter = with_token_ids(planned.adapter, model());  // rows of added tokens are trained too
  if (!recipe().train.memory.empty())
    memory_ = choose_for_memory(planned, *model().model, measured_compute(), *dataset_);
  if (peers_) return;  // agree_on_memory() asks for all of them
  if (memory_) apply(*memory_, planned.train);
  RunWork work;
  require_memory(predicted(work), planned);
}

MemoryPrediction Run::predicted(RunWork& work) {
  const auto compute = measured_compute();
  auto planned = recipe();
  planned.adapter = with_token_ids(planned.adapter, model());
  if (memory_) apply(*memory_, planned.train);
  work = run_work(planned.train, dataset().train);
  auto need = predict_memory(planned, *model().model, compute, work, dataset());
  const auto teacher = teacher_size(recipe(), *model().model, peers_ != nullptr);
  need.teacher = teacher.bytes, need.teacher_mapped = teacher.mapped, need.teacher_stays = teacher.stays;
  return need;
}

void Run::choose_for_all(bool begins) {
  if (!begins) {
    StageLedger there(folder_);  // nothing is written, and nobody else writes before the folder is ours
    there.hold();
    measured_ = compute_by(there);
  }
  say_choices(*peers_, measured_compute());
}

void Run::agree_on_memory() {
  auto& peers = *peers_;
  if (!trains()) {  // a training compares more than this
    if (peers.rank() == 0) say_text(peers, "");
    else hear_text(peers);
    return require_equal(peers, {{"base", model_files_.get()}});
  }
  dataset();  // which may be stopped: before the others count on this rank
  if (peers.rank() == 0) {
    say_text(peers, memory_ ? json_of(*memory_).dump() : "");
  } else if (const auto text = hear_text(peers); !text.empty()) {
    const std::string from = "what rank 0 says of train.memory";
    memory_ = read_as<MemoryChoice>(parse_json(text, from), {from});
    apply(*memory_, loaded_.recipe.train);
  }
  RunWork work;
  const auto need = predicted(work);
  const auto trainable = trainable_elements(*model().model, with_token_ids(recipe().adapter, model()));
  const auto sums = sums_of_rank(peers.rank(), peers.count(), work.most_forests, trainable);
  require_memory_of_ranks(peers, memory_of_rank(need, sums, *model().model));
}

// The choice is made once a run: a resume, and the stages after training, go on with it.
void Run::keep_to_budget() {
  auto& train = loaded_.recipe.train;
  if (!trains() || train.memory.empty() || (peers_ && peers_->rank() > 0)) return;
  auto inputs = sample_inputs();
  inputs.add("base", model_inputs().sha256())
      .add("adapter", print_spec(recipe().adapter))
      .add("train", print_spec(train))
      .add("threads", fmt::format("{}", usable_threads(train.threads)));
  const auto stage = ledger().run("memory", inputs, {}, [&] {
    if (!memory_) memory_ = choose_for_memory(recipe(), *model().model, compute(), dataset());
    return *memory_;
  });
  memory_ = stage.values;
  say("memory", fmt::format("{} of {}", describe(*memory_), train.memory));
  apply(*memory_, train);
}

StageInputs Run::model_inputs() {
  StageInputs inputs;
  inputs.add("retort", RETORT_VERSION)
      .add("model files", model_files_.get())
      .add("model", print_spec(recipe().model.arithmetic()))
      .add("prune", recipe().prune ? print_spec(*recipe().prune) : "")
      .add("compute", compute_name(compute()));
  if (!device_.is_cpu()) inputs.add("device", describe(device_));
  return inputs;
}

StageInputs Run::sample_inputs() {
  auto data = recipe().data;
  data.cache.clear();  // where it is kept changes nothing
  StageInputs inputs;
  inputs.add("retort", RETORT_VERSION)
      .add("model files", model_files_.get())
      .add("sample files", sample_files_.get())
      .add("data", print_spec(data));
  return inputs;
}

at::ScalarType Run::measured_compute() {
  if (!measured_) measured_ = compute_type(recipe().model, device_);
  return *measured_;
}

at::ScalarType Run::compute_by(StageLedger& ledger) {
  StageInputs inputs;
  inputs.add("retort", RETORT_VERSION).add("compute", recipe().model.compute).add("cpu", cpu_name());
  if (!device_.is_cpu()) inputs.add("device", describe(device_));
  const auto stage =
      ledger.run("compute", inputs, {}, [&] { return ComputeChoice{compute_name(measured_compute())}; });
  return stage.values.type == "bf16" ? at::kBFloat16 : at::kFloat;
}

at::ScalarType Run::compute() {
  const bool told = peers_ && peers_->rank() > 0;  // by rank 0, whatever a killed rank left in this folder
  if (!compute_) compute_ = told ? measured_compute() : compute_by(ledger());
  return *compute_;
}

LoadedModel& Run::model() {
  if (!model_) {
    AdapterNotes notes;
    model_ = load_student(recipe(), &notes);
    for (const auto& note : notes) say("note", note);
    if (!device_.is_cpu()) say("device", describe(device_));
    if (const auto* stream = model_->model->stream()) say("schedule", describe(*stream));
  }
  return *model_;
}

const ChatTemplate& Run::chat() {
  return choose_chat_template(recipe().data.wanted_template(), own_templates(model()), *model().tokenizer);
}

DataSpec Run::data_spec() const {
  auto spec = recipe().data;
  if (own_store()) spec.cache = (folder_ / kOwnStore).string();
  return spec;
}

const Dataset& Run::dataset() {
  if (!dataset_)
    dataset_ = load_dataset(data_spec(), *model().tokenizer, chat(), nullptr, recipe().train.threads);
  return *dataset_;
}

void Run::make_dataset() {
  if (!own_store()) dataset();  // the store that the recipe names refuses to stand for other samples
  else if (!dataset_) read_samples();
}

void Run::write_store() {
  write_token_store(data_spec().cache,
                    {dataset_->train, dataset_->held_out, dataset_->held_out_rows, dataset_->counts},
                    provenance(recipe().data, *model().tokenizer, chat()));
}

LoadedModel& Run::trained() {
  if (trained_ || !trains()) return model();
  keep_leaves(start_adapter(model(), recipe().adapter, static_cast<uint64_t>(recipe().train.seed)));
  load_trained(folder_, leaves_);
  trained_ = true;
  return model();
}

void Run::say(const StageLine& line) const {
  say(line.name, fmt::format("{}  ({})", line.what, line.skipped ? "done before" : duration(line.seconds)));
}

void Run::say(const std::string& stage, const std::string& text) const {
  if (peers_ && peers_->rank() > 0) return;
  tell(fmt::format("{:<12} {}", stage, text));
}

double Run::seconds_since_start() const {
  // Field 22 of /proc/self/stat: clock ticks since boot. The name in field 2 may hold spaces.
  std::ifstream file("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  size_t at = text.rfind(')');
  for (int field = 3; at != std::string::npos && field <= 22; ++field) at = text.find(' ', at + 1);
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  if (at == std::string::npos) return 0;
  const double started = std::strtod(text.c_str() + at, nullptr) / static_cast<double>(sysconf(_SC_CLK_TCK));
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec) - started;
}

}  // namespace retort
