// p(x, z | c) of a latent density with one layer on tiles of LANES states, and the exact density of
// the equal mixture over fixed codes; vaerl/densities/latent.py is the definition.
#pragma once

#include "film.h"
#include "mixture.h"

struct Generative {
    int paths, latent_dim;
    Film decoder;
    Mixture prior;
    Normal event;
    V *route, *component, *noise, *weight, *dz;  // of each path; dz of one

    Generative() = default;
    Generative(Arena& arena, int paths, int latent_dim, int hidden, int events, int blocks,
               const Mixture& prior, Range range)
        : paths(paths), latent_dim(latent_dim), decoder(arena, latent_dim, hidden, 2 * events, blocks),
          prior(prior), event(arena, events, range) {
        route = arena.vectors(paths * decoder.step());
        component = arena.vectors(paths), noise = arena.vectors(paths * latent_dim);
        weight = arena.vectors(paths);
        dz = arena.vectors(rows_of(latent_dim > events ? latent_dim : events));
    }

    V* path(int i) const { return route + i * decoder.step(); }
    V* z(int i) const { return path(i) + decoder.x(); }

    // p(x | z) of path i, in `event`.
    void decode(int i) {
        decoder.forward(path(i));
        event.read(path(i) + decoder.y());
    }

    // log (1/K) Σ p(x | z_k) over the codes, a row of them a code: u, then the latents' noise.
    V log_prob(const V* x, const float* codes) {
        V highest = all(-INFINITY), total{};
        for (int i = 0; i < paths; i++, codes += latent_dim + 1) {
            component[i] = prior.component(all(codes[0]));
            for (int j = 0; j < latent_dim; j++) noise[i * latent_dim + j] = all(codes[1 + j]);
            prior.place(component[i], noise + i * latent_dim, z(i));
            decode(i);
            weight[i] = event.log_prob(x);
            highest = larger(weight[i], highest);
        }
        for (int i = 0; i < paths; i++) total += weight[i] = exponential(weight[i] - highest);
        for (int i = 0; i < paths; i++) weight[i] /= total;
        return highest + logarithm(total) - std::log((float)paths);
    }

    // After it, from the derivative in log p(x) to those that decoder and prior hold.
    void log_prob_back(V d, const V* x) {
        for (int i = 0; i < paths; i++) {
            event.read(path(i) + decoder.y());
            event.log_prob_back(d * weight[i], x, path(i) + decoder.d_y());
            decoder.backward(path(i), dz);
            prior.place_back(component[i], noise + i * latent_dim, dz);
        }
        decoder.add(route, paths);
    }
};
