#include "teacher/teach.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/parcel.h"
#include "base/peers.h"
#include "models/layer_stream.h"
#include "ops/device.h"
#include "ops/workers.h"
#include "schedule/divided_read.h"
#include "schedule/read.h"

namespace retort {
namespace {

constexpr size_t kRowsAtATime = 64;  // logits of 64 positions exist at a time in each thread
constexpr auto kAsking = "asking the teacher; the finished parts are kept and the same command continues";

std::string compute_name(const TeacherSpec& spec, const Teacher& teacher) {
  const auto device = teacher.loaded.model->device();
  return fmt::format("{}, weights {}{}", teacher.compute == at::kBFloat16 ? "bf16" : "f32", spec.weights,
                     device.is_cpu() ? "" : ", " + describe(device));
}

// The arithmetic that a build in `cache` began with; empty when none did.
std::string begun_with(const std::filesystem::path& cache) {
  const auto file = cache_part_file(cache, 0);
  return std::filesystem::exists(file)
             ? read_hdf5(file.string(), "a teacher cache", {"compute"}, {{"rows", Hdf5Element::u8}})
                   .attributes[0]
             : "";
}

}  // namespace

ModelSpec model_spec(const TeacherSpec& spec) {
  return {.path = spec.path,
          .weights = spec.weights,
          .compute = spec.compute,
          .schedule = spec.schedule,
          .memory = spec.memory,
          .scratch = spec.scratch};
}

Teacher load_teacher(const TeacherSpec& spec, const std::filesystem::path& cache, at::Device device) {
  const auto model = model_spec(spec);
  Teacher teacher{load_model(model), at::kFloat, 0};
  teacher.loaded.model->compute_on(device);
  teacher.vocabulary = teacher.loaded.tokenizer->usable_ids();
  const auto begun = begun_with(cache);
  teacher.compute = spec.compute == "auto" && !begun.empty()
                        ? (begun.starts_with("bf16") ? at::kBFloat16 : at::kFloat)
                        : compute_type(model, device);
  return teacher;
}

TeacherIdentity identity_of(const TeacherSpec& spec, const Teacher& teacher, const ChatTemplate& chat,
                            double temperature) {
  return {teacher.loaded.sha256.get(), teacher.loaded.tokenizer->hash(), std::string(chat.name),
          compute_name(spec, teacher), temperature};
}

std::shared_ptr<const TeacherCache> open_whole_cache(const TeachJob& job) {
  auto cache = std::make_shared<TeacherCache>(
      job.folder, job.made_from, plan_cache(job.samples, job.keep.part_positions), job.keep, job.vocabulary);
  if (const auto missing = cache->missing_parts(); !missing.empty())
    throw FormatError(fmt::format(
        "{}: {} of {} positions are there; run `retort teach` with the same recipe to complete it",
        printable(job.folder.string()), cache->positions(), cache->planned_positions()));
  return cache;
}

namespace {

// One part of a cache in the making: its forests, and the rows of each that are to be kept.
struct Part {
  size_t number = 0;
  std::vector<Sample> samples;
  std::vector<Forest> forests;
  std::vector<std::vector<int32_t>> wanted;
  std::vector<std::vector<int64_t>> place;  // of each wanted row among the part's positions
  std::vector<BitWriter> rows;

  Part(const TeachJob& job, const CachePlan& plan, size_t part) : number(part) {
    const auto& planned = plan.parts.at(part);
    samples = job.samples.list(planned.first_sample, planned.end_sample);
    forests = build_forests(samples, job.row_tokens);
    // A context that stands in two forests belongs to the first: what is written never depends on which
    // thread was faster.
    rows.resize(static_cast<size_t>(planned.positions));
    std::vector<bool> claimed(rows.size());
    wanted.resize(forests.size());
    place.resize(forests.size());
    for (size_t f = 0; f < forests.size(); ++f) {
      const auto here = contexts(forests[f]);
      for (const auto& target : forests[f].targets) {
        const auto position =
            plan.position.at(here[static_cast<size_t>(target.row)]) - planned.first_position;
        if (position < 0 || claimed[static_cast<size_t>(position)]) continue;  // an earlier part has it
        claimed[static_cast<size_t>(position)] = true;
        wanted[f].push_back(target.row);
        place[f].push_back(position);
      }
    }
  }
  int64_t tokens() const {
    int64_t sum = 0;
    for (size_t f = 0; f < forests.size(); ++f)
      if (!wanted[f].empty()) sum += forests[f].size();
    return sum;
  }
};

void keep_rows_of(const TeachJob& job, const CachePlan& plan, Part& part, size_t f, const Read& read) {
  const Draws draws(static_cast<uint64_t>(job.keep.seed), "teacher cache");
  const auto& wanted = part.wanted[f];
  for (size_t first = 0; first < wanted.size(); first += kRowsAtATime) {
    const auto chunk = std::span(wanted).subspan(first, std::min(kRowsAtATime, wanted.size() - first));
    const auto z =
        logits(read.hidden[0], chunk, job.teacher.head, read.passes[0]).narrow(1, 0, job.vocabulary);
    const auto log_p = (job.temperature == 1 ? z : z / job.temperature).log_softmax(-1);
    const auto p = log_p.exp();
    const auto entropy = at::where(p.gt(0), p * log_p, at::zeros_like(p)).sum(-1, false, at::kDouble).neg_();
    for (size_t i = 0; i < chunk.size(); ++i) {
      const auto position = part.place[f][first + i];
      const std::span row(p.const_data_ptr<float>() + static_cast<int64_t>(i) * job.vocabulary,
                          static_cast<size_t>(job.vocabulary));
      const double nats = entropy.const_data_ptr<double>()[i];
      if (!std::isfinite(nats))
        throw Failure(fmt::format(
            "the teacher's probabilities of sample {} are not finite; its weights are damaged "
            "or overflow in this arithmetic (teacher.compute: f32)",
            printable(part.samples[static_cast<size_t>(part.forests[f].targets.front().sample)].id)));
      const auto number = plan.parts[part.number].first_position + position;
      encode_row(row, nats, job.keep, {draws, static_cast<uint64_t>(number)},
                 part.rows[static_cast<size_t>(position)]);
    }
  }
}

// A forest of a part.
struct AskedForest {
  size_t part, forest;
};

// The rows of these forests, for rank 0.
std::string packed(const std::vector<Part>& parts, std::span<const AskedForest> forests) {
  Parcel parcel;
  for (const auto& [p, f] : forests)
    for (const auto position : parts[p].place[f]) {
      const auto& row = parts[p].rows[static_cast<size_t>(position)];
      parcel.put(row.size()).put(row.bytes());
    }
  return parcel.bytes();
}

void unpack(std::string bytes, std::vector<Part>& parts, std::span<const AskedForest> forests) {
  constexpr uint64_t kByte = 8;
  Parcel parcel(std::move(bytes));
  for (const auto& [p, f] : forests)
    for (const auto position : parts[p].place[f]) {
      auto left = parcel.take<uint64_t>();
      auto& row = parts[p].rows[static_cast<size_t>(position)];
      for (const auto byte : parcel.take<std::vector<uint8_t>>()) {
        const auto bits = std::min(left, kByte);
        row.put(byte, static_cast<int>(bits));
        left -= bits;
      }
    }
}

// Those that have something to keep.
std::vector<AskedForest> forests_of(const std::vector<Part>& parts) {
  std::vector<AskedForest> forests;
  for (size_t p = 0; p < parts.size(); ++p)
    for (size_t f = 0; f < parts[p].forests.size(); ++f)
      if (!parts[p].wanted[f].empty()) forests.push_back({p, f});
  return forests;
}

// All forests of these parts, read together; with peers each rank reads some, and rank 0 has the rows of all.
// False where one of several ranks was asked to stop.
bool ask_teacher(const TeachJob& job, const CachePlan& plan, std::vector<Part>& parts,
                 PassRecord* record = nullptr) {
  const auto forests = forests_of(parts);
  const auto pass_of = [&](int64_t text) {
    const auto& [p, f] = forests[static_cast<size_t>(text)];
    return make_pass(parts[p].forests[f], job.compute, job.teacher.device());
  };
  const auto count = static_cast<int64_t>(forests.size()), threads = usable_threads(job.threads);
  const auto read = [&](const Share& share) {
    std::vector<int64_t> texts(static_cast<size_t>(share.size()));
    std::iota(texts.begin(), texts.end(), share.begin);
    read_texts({{job.teacher, pass_of, record}}, texts, threads_of_share(threads, count, share.size()),
               kAsking, [&](int64_t text, Read&& found) {
                 const auto& [p, f] = forests[static_cast<size_t>(text)];
                 keep_rows_of(job, plan, parts[p], f, found);
               });
  };
  const auto own = share_of(0, count, job.peers);
  if (!job.peers) {
    read(own);
    return true;
  }
  auto& peers = *job.peers;
  if (!done_by_all(peers, [&] { read(own); })) return false;
  const auto of_rank = [&](int64_t rank) {
    const auto share = share_of_rank(0, count, rank, peers.count());
    return std::span<const AskedForest>(forests).subspan(static_cast<size_t>(share.begin),
                                                         static_cast<size_t>(share.size()));
  };
  const bool joins = peers.rank() == 0;
  auto all = gather_texts(peers, joins ? "" : packed(parts, of_rank(peers.rank())));
  for (size_t rank = 1; rank < all.size(); ++rank)
    unpack(std::move(all[rank]), parts, of_rank(static_cast<int64_t>(rank)));
  return true;
}

using WholePart = std::function<void(Part& part)>;

// The same by ranks that divide the teacher's layers. Rank 0 hears of each part as soon as it is whole, the
// others at the end.
bool ask_by_layers(const TeachJob& job, const CachePlan& plan, std::vector<Part>& parts, const Abreast& how,
                   const WholePart& whole) {
  const auto forests = forests_of(parts);
  std::vector<size_t> left(parts.size());  // forests of each part
  for (const auto& asked : forests) ++left[asked.part];
  size_t told = 0;
  const auto tell = [&] {
    while (told < parts.size() && left[told] == 0) whole(parts[told++]);
  };
  const auto at = [&](int64_t text) { return std::span(forests).subspan(static_cast<size_t>(text), 1); };
  std::vector<int64_t> texts(forests.size());
  std::iota(texts.begin(), texts.end(), 0);
  const DividedReading reading{
      .model = job.teacher,
      .peers = *job.peers,
      .pass =
          [&](int64_t text) {
            const auto& [p, f] = forests[static_cast<size_t>(text)];
            return make_pass(parts[p].forests[f], job.compute, job.teacher.device());
          },
      .use =
          [&](int64_t text, Read&& read) {
            const auto& [p, f] = forests[static_cast<size_t>(text)];
            keep_rows_of(job, plan, parts[p], f, read);
          },
      .packed =
          [&](int64_t text) {
            auto bytes = packed(parts, at(text));
            const auto& [p, f] = forests[static_cast<size_t>(text)];
            for (const auto position : parts[p].place[f]) parts[p].rows[static_cast<size_t>(position)] = {};
            return bytes;
          },
      .unpack = [&](int64_t text, std::string bytes) { unpack(std::move(bytes), parts, at(text)); },
      .there =
          [&](int64_t text) {
            --left[forests[static_cast<size_t>(text)].part];
            tell();
          }};
  if (!read_divided(reading, texts, how, kAsking)) return false;
  left.assign(parts.size(), 0);
  tell();
  return true;
}

// What decides how many parts one process asks for together.
struct PartsRule {
  bool several = false;  // the teacher is read layer by layer
  bool all = false;      // texts wait on disk
  uint64_t states = 0;   // bytes of what stands between two layers
};

PartsRule rule_of(const Model& teacher) {
  const auto* stream = teacher.stream();
  if (!stream) return {};
  return {true, !stream->budget().scratch.empty(), stream->budget().states};
}

// The parts that are asked for together: one where the teacher is in memory, else as many as go through a
// layer at a time.
std::vector<Part> next_parts(const TeachJob& job, const CachePlan& plan, std::span<const size_t> numbers,
                             const PartsRule& rule) {
  std::vector<Part> parts;
  double states = 0;
  for (const auto number : numbers) {
    parts.emplace_back(job, plan, number);
    states += 2.0 * static_cast<double>(parts.back().tokens() * job.teacher.config.hidden) *
              static_cast<double>(c10::elementSize(job.compute));
    if (!rule.several || (!rule.all && states >= static_cast<double>(rule.states))) break;
  }
  return parts;
}

// Of ranks that divide the teacher's layers: what one process asks for in several turns, as long as it
// computes as many texts side by side, which decides the last bits. So few ranks wait at the beginning and
// the end.
std::vector<Part> next_parts_by_layers(const TeachJob& job, const CachePlan& plan,
                                       std::span<const size_t> numbers, const PartsRule& rule, Abreast& how) {
  constexpr int64_t kTokens = 1 << 21;
  std::vector<Part> parts;
  for (int64_t tokens = 0; parts.size() < numbers.size() && tokens < kTokens;) {
    auto turn = next_parts(job, plan, numbers.subspan(parts.size()), rule);
    const auto own = abreast(usable_threads(job.threads), static_cast<int64_t>(forests_of(turn).size()));
    if (parts.empty()) how = own;
    else if (own.passes != how.passes) break;
    for (auto& part : turn) {
      tokens += part.tokens();
      parts.push_back(std::move(part));
    }
  }
  return parts;
}

// A teacher that is read layer by layer and has a scratch folder goes on in the layer where it was killed.
std::unique_ptr<PassRecord> record_of(const TeachJob& job, const std::vector<Part>& parts) {
  const auto* stream = job.teacher.stream();
  if (!stream || stream->budget().scratch.empty()) return nullptr;
  auto identity = fmt::format("{} rows, {} threads, {}", job.row_tokens, usable_threads(job.threads),
                              at::toString(job.compute));
  for (const auto& [name, value] : job.made_from) identity += fmt::format("\n{}={}", name, value);
  for (const auto& part : parts) identity += fmt::format("\npart {}", part.number);
  return std::make_unique<PassRecord>(stream->budget().scratch, identity);
}

}  // namespace

std::vector<BitWriter> teach_part(const TeachJob& job, const CachePlan& plan, size_t number,
                                  int64_t* tokens) {
  std::vector<Part> parts;
  parts.emplace_back(job, plan, number);
  if (tokens) *tokens += parts[0].tokens();
  ask_teacher(job, plan, parts);
  return std::move(parts[0].rows);
}

std::vector<size_t> parts_to_make(const TeacherCache& cache, const CachePlan& plan, int64_t shard,
                                  int64_t shards, TeachProgress& state) {
  if (plan.parts.empty())
    throw RecipeError("teacher: no token of the samples is supervised; check data.loss");
  std::vector<size_t> mine;
  for (const auto part : cache.missing_parts()) {
    if (static_cast<int64_t>(part) % shards != shard) continue;
    mine.push_back(part);
    state.positions += plan.parts[part].positions;
  }
  state.parts = mine.size();
  return mine;
}

TeachProgress teach(const TeachJob& job, const std::function<void(const TeachProgress&)>& progress) {
  const auto plan = plan_cache(job.samples, job.keep.part_positions);
  const TeacherCache there(job.folder, job.made_from, plan, job.keep, job.vocabulary);
  TeachProgress state;
  auto mine = parts_to_make(there, plan, job.shard, job.shards, state);
  const bool writes = !job.peers || job.peers->rank() == 0;
  if (job.peers) {
    mine = Parcel(broadcast_text(*job.peers, 0, Parcel().put(mine).bytes())).take<std::vector<size_t>>();
    state.parts = mine.size();
  }
  if (progress) progress(state);
  const bool by_layers = job.peers && divides_layers(*job.peers, job.teacher);
  auto rule = rule_of(job.teacher);
  // The turns are those of rank 0 alone.
  if (by_layers) broadcast(*job.peers, 0, std::as_writable_bytes(std::span(&rule, 1)));
  const auto whole = [&](Part& part) {
    if (writes) write_cache_part(job.folder, part.number, job.made_from, part.rows);
    part.rows.clear();
    state.tokens += part.tokens();
    ++state.parts_done;
    state.positions_done += plan.parts[part.number].positions;
    if (progress) progress(state);
  };
  while (state.parts_done < mine.size()) {
    const auto left = std::span<const size_t>(mine).subspan(state.parts_done);
    Abreast how;
    auto parts =
        by_layers ? next_parts_by_layers(job, plan, left, rule, how) : next_parts(job, plan, left, rule);
    const auto record = by_layers ? nullptr : record_of(job, parts);
    if (by_layers ? !ask_by_layers(job, plan, parts, how, whole)
                  : !ask_teacher(job, plan, parts, record.get())) {
      if (writes) leave_with_all(kAsking);
      return state;
    }
    if (!by_layers)
      for (auto& part : parts) whole(part);
    if (record) record->remove();
  }
  return state;
}

}  // namespace retort
