#include "schedule/read.h"

#include "base/stop.h"
#include "models/layer_stream.h"
#include "ops/device_copies.h"
#include "ops/workers.h"
#include "schedule/layers.h"

namespace retort {
namespace {

using Use = std::function<void(int64_t text, Read&& read)>;

void read_each(const std::vector<Reader>& readers, const std::vector<int64_t>& texts, int64_t threads,
               std::string_view doing, const Use& use) {
  const UnchangedScope one_reading;
  const bool on_device = std::any_of(readers.begin(), readers.end(),
                                     [](const Reader& reader) { return !reader.model.device().is_cpu(); });
  const auto read_one = [&](int64_t i) {
    leave_if_stopped(doing);
    const auto text = texts[static_cast<size_t>(i)];
    Read read;
    for (const auto& reader : readers) {
      read.passes.push_back(reader.pass(text));
      read.hidden.push_back(reader.model.hidden(read.passes.back()));
    }
    use(text, std::move(read));
  };
  (on_device ? run_in_turn : run_workers)(threads, static_cast<int64_t>(texts.size()), read_one,
                                          Gradients::off);
}

// Groups of texts whose states fit the budget of every reader that has one.
void read_by_layers(const std::vector<Reader>& readers, const std::vector<int64_t>& texts, int64_t threads,
                    std::string_view doing, const Use& use) {
  std::filesystem::path scratch;
  for (const auto& reader : readers)
    if (const auto* stream = reader.model.stream(); stream && !stream->budget().scratch.empty())
      scratch = stream->budget().scratch;
  Shelf shelf(scratch);
  const Walk walk{abreast(threads, static_cast<int64_t>(texts.size())), shelf, doing};
  const auto& how = walk.how;
  std::vector<Read> all(texts.size());
  std::vector<int64_t> rows;
  for (size_t i = 0; i < texts.size(); ++i) {
    for (const auto& reader : readers) all[i].passes.push_back(reader.pass(texts[i]));
    rows.push_back(all[i].passes[0].size());
  }
  for (size_t first = 0, end = 0; first < texts.size(); first = end) {
    end = texts.size();
    for (size_t r = 0; r < readers.size(); ++r)
      if (readers[r].model.stream())
        end = std::min(end, passes_that_fit(readers[r].model, rows, first, all[first].passes[r].compute,
                                            static_cast<double>(readers.size() - 1)));
    const auto count = static_cast<int64_t>(end - first);
    for (size_t r = 0; r < readers.size(); ++r) {
      std::vector<Pass> passes;
      for (size_t i = first; i < end; ++i) passes.push_back(all[i].passes[r]);
      std::vector<Tensor> hidden(passes.size());
      if (readers[r].model.stream()) {
        hidden = hidden_by_layers(readers[r].model, passes, walk, readers[r].record);
      } else {
        run_workers(how.threads(count), count, [&](int64_t i) {
          leave_if_stopped(doing);
          const auto at = static_cast<size_t>(i);
          hidden[at] = shelf.put(readers[r].model.hidden(passes[at]));
        });
      }
      for (size_t i = first; i < end; ++i) all[i].hidden.push_back(std::move(hidden[i - first]));
    }
    run_workers(how.threads(count), count, [&](int64_t i) {
      leave_if_stopped(doing);
      const auto at = first + static_cast<size_t>(i);
      use(texts[at], std::exchange(all[at], {}));
    });
  }
}

}  // namespace

void read_texts(const std::vector<Reader>& readers, const std::vector<int64_t>& texts, int64_t threads,
                std::string_view doing, const Use& use) {
  const bool streamed = std::any_of(readers.begin(), readers.end(),
                                    [](const Reader& reader) { return reader.model.stream() != nullptr; });
  (streamed ? read_by_layers : read_each)(readers, texts, threads, doing, use);
}

}  // namespace retort
