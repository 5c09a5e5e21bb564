// Numbers of the distillation, one JSON line each.
//   distill_bench bytes                      bytes a position of a cache file, V = 129,280 and 49,152, flat
//   and Zipf distributions distill_bench keep MODEL TEXT            for several teacher.keep: bytes a
//   position of TEXT, and how far what is kept is off the teacher distill_bench unbiased MODEL TEXT mean
//   gradient over 10,000 draws against the dense one, in standard errors distill_bench speed MODEL TEXT
//   training step from the cache against cross-entropy: thread CPU time, resident memory distill_bench steps
//   STUDENT TEACHER TEXT ROWS LENGTH STEPS OBJECTIVE [OPTIMIZER [recompute]]
//                                            whole training steps of a student (every weight) on ROWS texts
//                                            of LENGTH tokens: wall time a step, peak memory while teaching
//                                            and while training, and what lies there; OBJECTIVE is
//                                            cross_entropy, or a row of distill.loss from a cache that is
//                                            made first; OPTIMIZER a train.optimizer.kind (adamw); recompute:
//                                            layers twice
//   distill_bench kills TINY_MODEL FOLDER    1 million positions, killed 10 times at random, against an
//   uninterrupted build
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <fstream>
#include <numeric>

#include "adapters/attach.h"
#include "base/error.h"
#include "base/files.h"
#include "base/hash.h"
#include "distill/objective.h"
#include "ops/memory.h"
#include "teacher/teach.h"
#include "timing.h"
#include "train/train.h"

namespace {

using namespace retort;

uint64_t status_bytes(const std::string& what) {  // of this process
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(what + ":")) return std::stoull(line.substr(what.size() + 1)) << 10;
  return 0;
}
uint64_t peak_bytes() { return status_bytes("VmHWM"); }  // so far
uint64_t resident_bytes() { return status_bytes("VmRSS"); }
double mb(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }
uint64_t forget_peak() {
  if (std::FILE* file = std::fopen("/proc/self/clear_refs", "w")) std::fputs("5", file), std::fclose(file);
  return peak_bytes();
}

std::vector<Sample> text_samples(const Tokenizer& tokenizer, const std::string& file, size_t count,
                                 size_t length) {
  const auto ids = tokenizer.encode(read_text(file));
  std::vector<Sample> samples;
  for (size_t s = 0; s < count && (s + 1) * length <= ids.size(); ++s) {
    Sample sample{{ids.begin() + static_cast<std::ptrdiff_t>(s * length),
                   ids.begin() + static_cast<std::ptrdiff_t>((s + 1) * length)},
                  std::vector<float>(length, 1),
                  "text"};
    samples.push_back(sample);
  }
  if (samples.empty()) throw RecipeError(file + ": too short a text");
  return samples;
}

void measure_bytes() {
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("retort_bench_{}", ::getpid());
  for (const int64_t vocabulary : {int64_t{129280}, int64_t{49152}}) {
    for (const double exponent : {0.0, 1.0}) {
      std::vector<float> p;
      double sum = 0;
      for (int64_t i = 0; i < vocabulary; ++i) sum += std::pow(static_cast<double>(i + 1), -exponent);
      for (int64_t i = 0; i < vocabulary; ++i)
        p.push_back(
            static_cast<float>(std::pow(static_cast<double>((i * 7919) % vocabulary + 1), -exponent) / sum));
      const KeepSpec keep;
      std::vector<BitWriter> rows(static_cast<size_t>(keep.part_positions));
      for (size_t i = 0; i < rows.size(); ++i) encode_row(p, 8, keep, {Draws(1, "bench"), i}, rows[i]);
      const std::vector<Sample> samples(1, Sample{{1, 2}, {0, 1}, ""});
      write_cache_part(
          folder, 0,
          cache_provenance({std::string(64, 'a'), std::string(64, 'b'), "chatml", "bf16, weights keep", 1},
                           samples, keep),
          rows);
      const auto size = std::filesystem::file_size(cache_part_file(folder, 0));
      fmt::print(
          "{{\"bench\": \"bytes\", \"vocabulary\": {}, \"distribution\": \"{}\", \"positions\": {}, "
          "\"file_bytes_per_position\": {:.2f}}}\n",
          vocabulary, exponent == 0 ? "flat (worst case)" : "Zipf", rows.size(),
          static_cast<double>(size) / static_cast<double>(rows.size()));
    }
  }
  std::filesystem::remove_all(folder);
}

// sum_i (p^_i - p_i)^2 of what a row keeps, mean over positions and draws: the variance that training hears.
// Bytes of the rows alone.
void measure_keep(const std::string& path, const std::string& text) {
  const auto loaded = load_model({.path = path});
  const auto& model = *loaded.model;
  const at::NoGradGuard no_graph;
  constexpr uint64_t kDraws = 4;
  const auto forest = build_forests(text_samples(*loaded.tokenizer, text, 4, 512), 4096)[0];
  const auto pass = make_pass(forest, at::kFloat);
  std::vector<int32_t> rows;
  for (int32_t i = 0; i < static_cast<int32_t>(forest.size()); i += 2) rows.push_back(i);
  const auto hidden = model.hidden(pass);
  for (const auto& [head, draws] : {std::pair<int64_t, int64_t>{6, 7}, {4, 11}, {3, 12}, {2, 14}, {6, 14}}) {
    KeepSpec keep;
    keep.head = head, keep.draws = draws;
    double error = 0, bits = 0, most = 0;
    for (size_t first = 0; first < rows.size(); first += 128) {
      const std::span some(rows.data() + first, std::min<size_t>(128, rows.size() - first));
      const auto p_all = logits(hidden, some, model.head, pass).softmax(-1);
      const auto width = static_cast<size_t>(p_all.size(1));
      for (size_t r = 0; r < some.size(); ++r) {
        const std::span p(p_all.const_data_ptr<float>() + r * width, width);
        double squares = 0;
        for (const float value : p) squares += static_cast<double>(value) * value;
        for (uint64_t d = 0; d < kDraws; ++d) {
          BitWriter out;
          encode_row(p, 1, keep, {Draws(first + r, "keep"), d}, out);
          BitReader in("bench", out.bytes());
          const auto row = decode_row(in, keep, p_all.size(1), "bench");
          double off = squares;
          for (size_t i = 0; i < row.ids.size(); ++i) {
            const double truth = p[static_cast<size_t>(row.ids[i])];
            off += (row.p[i] - truth) * (row.p[i] - truth) - truth * truth;
          }
          error += off, bits += static_cast<double>(out.size()),
              most = std::max(most, static_cast<double>(out.size()));
        }
      }
    }
    const auto all = static_cast<double>(rows.size() * kDraws);
    fmt::print(
        "{{\"bench\": \"keep\", \"head\": {}, \"draws\": {}, \"positions\": {}, \"mean_square_error\": "
        "{:.5f}, \"bytes_per_position\": {:.1f}, \"most_bytes\": {:.1f}}}\n",
        head, draws, rows.size(), error / all, bits / 8 / all, most / 8);
  }
}

// The hidden state's gradient of forward KL is W^T (q - p^): its mean over draws against W^T (q - p).
void measure_bias(const std::string& path, const std::string& text) {
  const auto loaded = load_model({.path = path});
  const auto& model = *loaded.model;
  const at::NoGradGuard no_graph;
  constexpr size_t kRows = 12, kDraws = 10000;
  const auto samples = text_samples(*loaded.tokenizer, text, 1, 400);
  const auto forest = build_forests(samples, 1000)[0];
  const auto pass = make_pass(forest, at::kFloat);
  std::vector<int32_t> rows;
  for (size_t i = 0; i < kRows; ++i) rows.push_back(static_cast<int32_t>(20 + i * 30));
  const auto p_all = logits(model.hidden(pass), rows, model.head, pass).softmax(-1);
  const auto w = widen(model.head.linear.weight, at::kFloat);
  const auto exact = at::mm(p_all.to(at::kDouble), w.to(at::kDouble));  // [rows, E]
  double chi = 0, worst = 0, relative = 0;
  int64_t numbers = 0;
  const KeepSpec keep;
  for (size_t r = 0; r < kRows; ++r) {
    const std::span p(p_all.const_data_ptr<float>() + static_cast<int64_t>(r) * p_all.size(1),
                      static_cast<size_t>(p_all.size(1)));
    auto sum = at::zeros({w.size(1)}, at::TensorOptions(at::kDouble)), squares = at::zeros_like(sum);
    for (size_t d = 0; d < kDraws; ++d) {
      BitWriter out;
      encode_row(p, 1, keep, {Draws(static_cast<uint64_t>(r), "bias"), d}, out);
      BitReader in("bench", out.bytes());
      const auto row = decode_row(in, keep, p_all.size(1), "bench");
      const std::vector<int64_t> ids(row.ids.begin(), row.ids.end());
      const auto g = at::mv(w.index_select(0, at::tensor(ids, at::TensorOptions(at::kLong))).t(),
                            at::tensor(row.p, at::TensorOptions(at::kFloat)))
                         .to(at::kDouble);
      sum += g, squares += g * g;
    }
    const auto mean = sum / static_cast<double>(kDraws),
               variance = (squares / static_cast<double>(kDraws) - mean * mean).clamp_min(1e-30);
    const auto away =
        (mean - exact[static_cast<int64_t>(r)]) / (variance / static_cast<double>(kDraws)).sqrt();
    chi += away.square().sum().item<double>();
    worst = std::max(worst, away.abs().max().item<double>());
    relative += ((mean - exact[static_cast<int64_t>(r)]).norm() / exact[static_cast<int64_t>(r)].norm())
                    .item<double>() /
                static_cast<double>(kRows);
    numbers += w.size(1);
  }
  fmt::print(
      "{{\"bench\": \"unbiased\", \"draws\": {}, \"numbers\": {}, \"mean_square_standard_errors\": {:.3f}, "
      "\"largest_standard_errors\": {:.2f}, \"relative_error_of_mean\": {:.2e}}}\n",
      kDraws, numbers, chi / static_cast<double>(numbers), worst, relative);
}

// One thread, forests of 512 tokens, a quarter of the rows supervised; the two objectives take turns.
void measure_speed(const std::string& path, const std::string& text) {
  at::set_num_threads(1);
  const ModelSpec spec{.path = path, .weights = "bf16"};
  const auto loaded = load_model(spec);
  const auto compute = compute_type(spec);
  auto& model = *loaded.model;
  auto samples = text_samples(*loaded.tokenizer, text, 10, 512);
  for (auto& sample : samples)
    for (size_t i = 0; i < sample.weights.size(); ++i) sample.weights[i] = i % 4 == 3;
  // What learns: LoRA-sized leaves on every layer are the main job's business; here the norms, so that the
  // whole backward runs.
  std::vector<Tensor> leaves;
  for (auto& [name, tensor, place] : model.vectors()) leaves.push_back(tensor->requires_grad_());
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("retort_bench_{}", ::getpid());
  const KeepSpec keep;
  const auto made_from = cache_provenance({loaded.sha256.get(), "t", "c", "x", 1}, samples, keep);
  const TeachJob job{model, compute, loaded.tokenizer->size(), 1, samples, folder, made_from, keep, 1024, 2,
                     0,     1};
  teach(job);
  const auto cache = open_whole_cache(job);
  const std::pair<const char*, Objective> objectives[] = {
      {"cross_entropy", next_token_objective()},
      {"forward_kl", cached_distillation({.weight = 0.8}, cache)},
      {"reverse_kl", cached_distillation({.loss = "reverse_kl", .weight = 1}, cache)}};
  std::vector<std::vector<double>> seconds(std::size(objectives));
  std::vector<uint64_t> peak(std::size(objectives));
  for (size_t round = 0; round < samples.size(); ++round) {
    const auto forest = build_forests({samples[round]}, 1024)[0];
    auto pass = make_pass(forest, compute);
    pass.training = true;
    for (size_t i = 0; i < std::size(objectives); ++i) {
      forget_peak();
      const double start = thread_seconds();
      const auto loss = objectives[i].second(model, forest, pass);
      torch::autograd::grad({loss.nats}, leaves);
      if (round > 0) seconds[i].push_back(thread_seconds() - start);
      peak[i] = std::max(peak[i], peak_bytes());
    }
  }
  std::filesystem::remove_all(folder);
  for (size_t i = 0; i < std::size(objectives); ++i) {
    std::sort(seconds[i].begin(), seconds[i].end());
    std::sort(seconds[0].begin(), seconds[0].end());
    const double median = seconds[i][seconds[i].size() / 2];
    fmt::print(
        "{{\"bench\": \"speed\", \"objective\": \"{}\", \"tokens_per_cpu_second\": {:.1f}, "
        "\"share_of_cross_entropy\": {:.3f}, \"peak_of_cross_entropy\": {:.3f}, \"file_bytes_per_position\": "
        "{:.2f}}}\n",
        objectives[i].first, 511 / median, seconds[0][seconds[0].size() / 2] / median,
        static_cast<double>(peak[i]) / static_cast<double>(peak[0]),
        static_cast<double>(cache->file_bytes()) / static_cast<double>(cache->positions()));
  }
}

void measure_steps(const std::string& student_path, const std::string& teacher_path, const std::string& text,
                   size_t rows, size_t length, int64_t steps, const std::string& objective,
                   const std::string& optimizer, bool recompute) {
  keep_freed_memory();  // as the program does
  const auto begin = std::chrono::steady_clock::now();
  const auto program = resident_bytes();
  const ModelSpec spec{.path = student_path};
  auto student = load_model(spec);
  const auto compute = compute_type(spec);
  AdapterSpec full;
  full.kind = "full";
  const auto leaves = attach(*student.model, full, 1);
  const auto samples = text_samples(*student.tokenizer, text, rows, length);
  if (samples.size() < rows) throw RecipeError(text + ": too short a text");
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("retort_bench_{}", ::getpid());
  uint64_t weights = 0;
  for (const auto& leaf : leaves) weights += leaf.tensor->nbytes();
  const auto student_alone = resident_bytes();
  double teaching = 0;
  uint64_t teaching_peak = 0;
  Objective trained = next_token_objective();
  if (objective != "cross_entropy") {
    const auto start = std::chrono::steady_clock::now();
    const auto teacher = load_model({.path = teacher_path});
    const KeepSpec keep;
    const auto made_from = cache_provenance({teacher.sha256.get(), "t", "c", "x", 1}, samples, keep);
    const TeachJob job{*teacher.model,
                       compute,
                       teacher.tokenizer->size(),
                       1,
                       samples,
                       folder / "cache",
                       made_from,
                       keep,
                       1024,
                       0,
                       0,
                       1};
    teach(job);
    trained = cached_distillation({.loss = objective, .weight = 0.8}, open_whole_cache(job));
    teaching = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    teaching_peak = peak_bytes();
  }
  TrainSpec how;
  how.steps = steps + 1;
  how.batch.samples = static_cast<int64_t>(rows);
  how.optimizer.kind = optimizer;
  how.recompute = recompute;
  how.optimizer.learning_rate = 1e-4;
  how.checkpoint.every = 0;
  std::vector<double> seconds;
  double first = 0, loss = 0;
  uint64_t before_steps = 0, between_steps = 0;
  TrainWatch watch;
  watch.on_start = [&](int64_t, int64_t) {
    before_steps = resident_bytes();
  };  // without the teacher, with the optimizer's states
  watch.on_step = [&](const StepRecord& step) {
    if (step.step == 1)
      first = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    else seconds.push_back(step.seconds);
    loss = step.loss;
    between_steps = resident_bytes();
  };
  const auto earlier_peak = peak_bytes();
  forget_peak();
  const std::vector<Sample> nothing;
  const TrainJob job{*student.model, leaves, samples, nothing, trained, compute, folder / "run", {}};
  train(how, job, watch);
  const auto training_peak = peak_bytes(), peak = std::max(earlier_peak, training_peak);
  std::filesystem::remove_all(folder);
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  fmt::print(
      "{{\"bench\": \"steps\", \"objective\": \"{}\", \"optimizer\": \"{}\", \"compute\": \"{}\", "
      "\"tokens_per_s\": {:.1f}, \"peak_mb\": {:.1f}, \"first_step_s\": {:.2f}, \"teaching_s\": {:.2f}, "
      "\"loss\": {:.5f}, "
      "\"memory_mb\": {{\"program\": {:.0f}, \"weights\": {:.0f}, \"student_loaded\": {:.0f}, "
      "\"teaching_peak\": {:.0f}, \"before_steps\": {:.0f}, \"training_peak\": {:.0f}, \"between_steps\": "
      "{:.0f}}}}}\n",
      objective, optimizer, compute == at::kBFloat16 ? "bf16" : "f32",
      static_cast<double>(rows * length) / median, mb(peak), first, teaching, loss, mb(program), mb(weights),
      mb(student_alone), mb(teaching_peak), mb(before_steps), mb(training_peak), mb(between_steps));
}

std::string hash_of(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (entry.path().extension() == ".h5") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  Sha256 hash;
  for (const auto& file : files) hash.add(file.filename().string() + sha256_file(file));
  return hash.hex();
}

void measure_kills(const std::string& path, const std::filesystem::path& folder) {
  const auto loaded = load_weights({.path = path});
  const auto vocabulary = loaded.model->config.vocabulary;
  const Draws draws(1, "kills");
  std::vector<Sample> samples(1000);
  for (size_t s = 0; s < samples.size(); ++s)
    for (uint64_t i = 0; i < 1001; ++i)
      samples[s].tokens.push_back(
          static_cast<int32_t>(draws.below(s * 2000 + i, static_cast<uint64_t>(vocabulary)))),
          samples[s].weights.push_back(1);
  const KeepSpec keep;
  const auto made_from = cache_provenance({loaded.sha256.get(), "t", "c", "f32", 1}, samples, keep);
  const auto build = [&](const char* name) {
    teach({*loaded.model, at::kFloat, vocabulary, 1, samples, folder / name, made_from, keep, 1024, 2, 0, 1});
  };
  const auto run = [&](const char* name, double kill_after) {  // true: finished
    const pid_t child = ::fork();
    if (child == 0) {
      build(name);
      ::_exit(0);
    }
    if (kill_after > 0) {
      ::usleep(static_cast<useconds_t>(kill_after * 1e6));
      ::kill(child, SIGKILL);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status);
  };
  timespec begin{}, end{};
  clock_gettime(CLOCK_MONOTONIC, &begin);
  run("whole", 0);
  clock_gettime(CLOCK_MONOTONIC, &end);
  const double whole = static_cast<double>(end.tv_sec - begin.tv_sec) +
                       1e-9 * static_cast<double>(end.tv_nsec - begin.tv_nsec);
  int kills = 0;
  for (uint64_t attempt = 0; attempt < 10; ++attempt)
    kills += !run("killed", whole / 12 * (0.5 + draws.uniform(attempt)));
  run("killed", 0);
  const auto plan = plan_cache(samples, keep.part_positions);
  const TeacherCache cache(folder / "killed", made_from, plan, keep, vocabulary);
  fmt::print(
      "{{\"bench\": \"kills\", \"positions\": {}, \"parts\": {}, \"kills\": {}, \"seconds_uninterrupted\": "
      "{:.1f}, \"missing_parts\": {}, \"equal_bytes\": {}}}\n",
      cache.positions(), plan.parts.size(), kills, whole, cache.missing_parts().size(),
      hash_of(folder / "killed") == hash_of(folder / "whole"));
}

}  // namespace

int main(int count, char** arguments) try {
  const std::string what = count > 1 ? arguments[1] : "";
  if (what == "bytes") measure_bytes();
  else if (what == "keep" && count == 4) measure_keep(arguments[2], arguments[3]);
  else if (what == "unbiased" && count == 4) measure_bias(arguments[2], arguments[3]);
  else if (what == "speed" && count == 4) measure_speed(arguments[2], arguments[3]);
  else if (what == "steps" && count >= 9 && count <= 11)
    measure_steps(arguments[2], arguments[3], arguments[4], std::stoul(arguments[5]),
                  std::stoul(arguments[6]), std::stol(arguments[7]), arguments[8],
                  count > 9 ? arguments[9] : "adamw",
                  count > 10 && std::string(arguments[10]) == "recompute");
  else if (what == "kills" && count == 4) measure_kills(arguments[2], arguments[3]);
  else {
    fmt::print(stderr,
               "usage: distill_bench bytes | keep MODEL TEXT | unbiased MODEL TEXT | speed MODEL TEXT | "
               "steps STUDENT TEACHER TEXT ROWS LENGTH STEPS OBJECTIVE [OPTIMIZER [recompute]] | kills "
               "TINY_MODEL FOLDER\n");
    return 2;
  }
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "{}\n", error.what());
  return 1;
}
